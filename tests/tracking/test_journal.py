import math
import threading
from pathlib import Path

import pytest

from person_attributes.errors import TrackingError
from person_attributes.tracking.connection import connect
from person_attributes.tracking.journal import Journal, Outbox
from person_attributes.workspace import Workspace


def test_a_journal_records_nothing_twice_across_processes(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    first = Journal(path)
    assert first.add("stage", 0, {"loss": 2.0, "val_loss": math.nan})
    assert first.add("execution", 0, {"loss": 2.0})
    again = Journal(path)
    assert [point.timestamp for point in again.points] == [
        point.timestamp for point in first.points
    ]
    assert again.add("stage", 0, {"loss": 1.0}) is None
    added = again.add("stage", 0, {"loss": 1.0, "rate": 3.0})
    assert added is not None
    assert added.metrics == {"rate": 3.0}


def test_an_incomplete_line_is_dropped_and_recorded_again(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    journal = Journal(path)
    journal.add("stage", 0, {"loss": 2.0})
    journal.add("stage", 1, {"loss": 1.5})
    path.write_bytes(path.read_bytes()[:-9])
    again = Journal(path)
    assert [point.step for point in again.points] == [0]
    assert again.add("stage", 1, {"loss": 1.5})
    assert [point.step for point in Journal(path).points] == [0, 1]


def test_points_that_are_sent_twice_are_stored_once(workspace: Workspace, tmp_path: Path) -> None:
    client = connect(workspace)
    run_id = client.create_run(client.create_experiment("e")).info.run_id
    journal = Journal(tmp_path / "points.jsonl")
    points = [journal.add("stage", step, {"loss": 1 / (step + 1)}) for step in range(5)]
    for _ in range(2):
        outbox = Outbox(client, {"stage": run_id})
        for point in points:
            assert point
            outbox.send(point)
        outbox.flush(patience_minutes=1)
    history = client.get_metric_history(run_id, "loss")
    assert [(point.step, point.value) for point in history] == [
        (step, 1 / (step + 1)) for step in range(5)
    ]


def test_a_server_that_responds_needs_no_patience(workspace: Workspace, tmp_path: Path) -> None:
    client = connect(workspace)
    run_id = client.create_run(client.create_experiment("e")).info.run_id
    point = Journal(tmp_path / "points.jsonl").add("stage", 0, {"loss": 1.0})
    assert point
    outbox = Outbox(client, {"stage": run_id})
    outbox.send(point)
    outbox.flush(patience_minutes=0)
    assert client.get_run(run_id).data.metrics == {"loss": 1.0}


def test_a_closed_outbox_leaves_no_thread(workspace: Workspace, tmp_path: Path) -> None:
    client = connect(workspace)
    point = Journal(tmp_path / "points.jsonl").add("stage", 0, {"loss": 1.0})
    assert point
    before = set(threading.enumerate())
    idle = Outbox(client, {})
    refused = Outbox(client, {"stage": "0" * 32})
    refused.send(point)
    started = set(threading.enumerate()) - before
    for outbox in (idle, refused):
        outbox.close()
    for thread in started:
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_a_deleted_run_is_reported_without_waiting(workspace: Workspace, tmp_path: Path) -> None:
    client = connect(workspace)
    client.create_experiment("e")
    point = Journal(tmp_path / "points.jsonl").add("stage", 0, {"loss": 1.0})
    assert point
    outbox = Outbox(client, {"stage": "0" * 32})
    outbox.send(point)
    with pytest.raises(TrackingError, match=r"did not accept 1 points: .*not found. Run dvc repro"):
        outbox.flush(patience_minutes=1)
