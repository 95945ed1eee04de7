"""The embedded store is created atomically and keeps its artifacts in the project."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from conftest import ROOT
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from person_attributes.errors import TrackingError
from person_attributes.tracking.connection import choose_experiment, connect
from person_attributes.tracking.database import prepare_store, sqlite_address
from person_attributes.tracking.processes import PLACE, name_place
from person_attributes.workspace import Workspace

CONNECT = (
    "from pathlib import Path; from person_attributes.workspace import Workspace;"
    "from person_attributes.tracking.connection import connect;"
    "connect(Workspace(Path.cwd())).search_experiments()"
)


def _track(workspace: Workspace, text: str) -> Run:
    """Logs a run with an artifact, like a stage, and returns it."""
    client = connect(workspace)
    tags = {PLACE: name_place(workspace.checkpoints)}
    experiment = choose_experiment(client, workspace)
    with mlflow.start_run(experiment_id=experiment, tags=tags) as run:
        client.log_text(run.info.run_id, text, "text.txt")
        model = mlflow.initialize_logged_model(name="model")
        client.create_registered_model(f"model {run.info.run_id}")
        client.create_model_version(
            f"model {run.info.run_id}", f"models:/{model.model_id}", run.info.run_id
        )
    return client.get_run(run.info.run_id)


def _read(client: MlflowClient, run: Run) -> str:
    uri = client.get_run(run.info.run_id).info.artifact_uri
    return mlflow.artifacts.load_text(f"{uri}/text.txt")


def _list_places(workspace: Workspace) -> set[str]:
    """Lists all locations in the store."""
    client = connect(workspace)
    experiments = client.search_experiments()
    numbers = [experiment.experiment_id for experiment in experiments]
    runs = client.search_runs(numbers)
    versions = client.search_model_versions()
    return {
        *(str(experiment.artifact_location) for experiment in experiments),
        *(str(run.info.artifact_uri) for run in runs),
        *(run.data.tags[PLACE].partition(":")[2] for run in runs),
        *(str(model.artifact_location) for model in client.search_logged_models(numbers)),
        *(client.get_model_version_download_uri(one.name, one.version) for one in versions),
    }


def test_artifacts_of_an_experiment_in_a_copy_are_stored_in_the_project(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dvc exp run --queue` and `--temp` run in a copy and delete it."""
    copy = workspace.root / ".dvc/tmp/exps/standalone/tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    for name in ("person-attributes", "another"):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
        run = _track(Workspace(copy), name)
        assert _read(connect(workspace), run) == name
    monkeypatch.chdir(workspace.root)
    shutil.rmtree(copy)
    places = {str(workspace.root), workspace.root.as_uri()}
    assert {
        place.partition("/mlruns/")[0].partition("/checkpoints")[0]
        for place in _list_places(workspace)
    } == places
    assert len(list(workspace.root.rglob("text.txt"))) == 2


def test_a_copied_project_does_not_write_to_its_original(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _track(workspace, "before")
    original = _list_places(workspace)
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    copy = Workspace(tmp_path / "copy of 100 %")
    shutil.copytree(workspace.root, copy.root)
    capsys.readouterr()
    after = _track(copy, "after")
    printed = capsys.readouterr().err
    assert printed == (
        f"mlflow.db: moved from {workspace.root}; the artifact locations now point to "
        f"{copy.root / 'mlruns'}.\n"
    )
    assert not [place for place in _list_places(copy) if f"/{workspace.root.name}/" in place]
    client = connect(copy)
    assert [_read(client, run) for run in (before, after)] == ["before", "after"]
    (
        copy.root / "mlruns" / before.info.experiment_id / before.info.run_id / "artifacts/text.txt"
    ).write_text("mine")
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    assert _list_places(workspace) == original
    assert _read(connect(workspace), before) == "before"
    assert "moved from" not in capsys.readouterr().err


def test_a_store_that_mlflow_created_is_used_without_a_message(
    tmp_path: Path,
    shell: None,
    empty_store: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A first `mlflow run .` or `mlflow ui` stores paths instead of URLs."""
    root = tmp_path / "what? ümläut #1 100%"
    root.mkdir()
    monkeypatch.chdir(root)
    shutil.copy(empty_store, root / "mlflow.db")
    client = MlflowClient(sqlite_address(root / "mlflow.db"))
    store = client._tracking_client.store
    with store.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE experiments SET artifact_location = ?", (f"{root}/mlruns/0",)
        )
    run = _track(Workspace(root), "text")
    assert "moved from" not in capsys.readouterr().err
    assert _read(connect(Workspace(root)), run) == "text"
    assert [path.parent for path in tmp_path.rglob("text.txt")] == [
        root / "mlruns" / run.info.experiment_id / run.info.run_id / "artifacts"
    ]
    assert list(tmp_path.iterdir()) == [root]


def test_a_path_that_mlflow_decodes_wrongly_is_refused(tmp_path: Path, shell: None) -> None:
    root = tmp_path / "my%20project"
    root.mkdir()
    with pytest.raises(TrackingError, match="Rename the folder"):
        connect(Workspace(root))
    assert list(root.iterdir()) == []


def test_a_folder_in_place_of_the_store_is_refused(tmp_path: Path, shell: None) -> None:
    """Container engines create a folder for a file to mount that does not exist."""
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match=r"expected the file .* Received: a folder\. Remove or"):
        connect(Workspace(tmp_path))


def test_a_path_that_is_too_long_for_sqlite_is_refused(tmp_path: Path, shell: None) -> None:
    deep = tmp_path.joinpath(*["x" * 100] * 4)
    deep.mkdir(parents=True)
    longest = deep.with_name("x" * (440 - len(f"{deep.parent}//mlflow.db")))
    longest.mkdir()
    with pytest.raises(TrackingError, match=r"at most 440 bytes.* Received: \d+ bytes\. Move the"):
        connect(Workspace(deep))
    connect(Workspace(longest))


def _start(root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CONNECT],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_concurrent_first_starts_after_a_kill_create_a_complete_store(
    tmp_path: Path, shell: None
) -> None:
    killed = _start(tmp_path)
    draft = tmp_path / f".writing-{killed.pid}-mlflow.db"
    while killed.poll() is None and not (draft.exists() and draft.stat().st_size):
        time.sleep(0.001)
    killed.kill()
    killed.communicate()
    assert draft.exists(), "the process ended before it was killed"
    assert not (tmp_path / "mlflow.db").exists()
    both = [_start(tmp_path) for _ in range(2)]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    connect(Workspace(tmp_path)).create_experiment("complete")
    assert not list(tmp_path.glob(".writing-*"))


def _write_garbage(database: Path) -> None:
    database.write_bytes(b"This is not an SQLite database file." * 40)


def _write_incomplete_store(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE datasets (name TEXT)")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_write_garbage, "file is not a database.* move the file away"),
        (_write_incomplete_store, "no such table: experiments.*Its creation was interrupted"),
    ],
)
def test_a_broken_store_is_reported_in_one_line_with_advice(
    tmp_path: Path, shell: None, write: Callable[[Path], None], message: str
) -> None:
    write(tmp_path / "mlflow.db")
    with pytest.raises(TrackingError, match=message) as error:
        connect(Workspace(tmp_path))
    assert "Start the server" not in str(error.value)
    assert str(tmp_path / "mlflow.db") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("storage", ["s3://bucket", "{folder}/nas"])
def test_artifacts_on_other_storage_are_not_moved(
    workspace: Workspace, tmp_path: Path, storage: str
) -> None:
    root = f"{storage.format(folder=tmp_path)}/mlruns"
    (tmp_path / "nas/mlruns").mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(workspace.tracking_database)) as store, store:
        store.execute("update experiments set artifact_location = ? || '/0'", [root])
    prepare_store(workspace.tracking_database)
    assert connect(workspace).get_experiment("0").artifact_location == f"{root}/0"


@pytest.mark.parametrize("address", ["", "sqlite:///mlflow.db", "sqlite:///mlflow.db\r"])
def test_an_empty_or_relative_address_means_the_store_of_the_project(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Also in the copies in which DVC runs experiments."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    copy = Workspace(workspace.root / ".dvc/tmp/exps/copy")
    copy.root.mkdir(parents=True)
    monkeypatch.chdir(copy.root)
    connect(copy)
    assert mlflow.get_tracking_uri() == sqlite_address(workspace.tracking_database)
    assert not (copy.root / "mlflow.db").exists()


@pytest.mark.parametrize("address", ["sqlite:///{name}", "sqlite:///{root}/{name}"])
def test_another_database_keeps_the_runs_and_artifacts_of_an_experiment_in_a_copy(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    database = workspace.tracking_database.rename(workspace.root / "other.db")
    root, name = workspace.root, database.name
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(root=root, name=name))
    copy = Workspace(root / ".dvc/tmp/exps/copy")
    copy.root.mkdir(parents=True)
    monkeypatch.chdir(copy.root)
    run = _track(copy, "text")
    assert mlflow.get_tracking_uri() == sqlite_address(database)
    assert str(run.info.artifact_uri).startswith(f"{root.as_uri()}/mlruns/")
    assert not list(copy.root.iterdir())


def test_a_linked_store_keeps_its_location(workspace: Workspace, tmp_path: Path) -> None:
    """A git worktree may share the store of another."""
    worktree = Workspace(tmp_path / "worktree")
    worktree.root.mkdir()
    worktree.tracking_database.symlink_to(workspace.tracking_database)
    run = _track(worktree, "text")
    assert str(run.info.artifact_uri).startswith(f"{workspace.root.as_uri()}/mlruns/")
    prepare_store(workspace.tracking_database)
