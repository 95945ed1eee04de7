"""Concurrent writes of two processes."""

from typing import Any

import pandas as pd
import pytest
import sqlalchemy
from mlflow.entities import Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from person_attributes.tracking.connection import connect
from person_attributes.tracking.runs import Run
from person_attributes.workspace import Workspace

TABLE = pd.DataFrame({"image": ["1.jpg", "2.jpg"]})


def _log_dataset(client: MlflowClient, run_id: str) -> None:
    Run(client, run_id, run_id).log_dataset(TABLE, "records", "C:labels", "training")


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # of MLflow's digest
def test_a_dataset_that_another_process_logs_at_the_same_time_is_logged(
    workspace: Workspace,
) -> None:
    """The other process inserts the dataset between our query and our insertion."""
    client = connect(workspace)
    ours, theirs = (client.create_run("0").info.run_id for _ in range(2))
    engine = client._tracking_client.store.engine
    conflicts: list[str] = []

    @sqlalchemy.event.listens_for(engine, "before_cursor_execute")
    def race(_: Any, __: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("INSERT INTO datasets") and not conflicts:
            conflicts.append(statement)
            _log_dataset(client, theirs)

    _log_dataset(client, ours)
    assert conflicts
    for run_id in (ours, theirs):
        inputs = client.get_run(run_id).inputs
        assert inputs is not None
        (used,) = inputs.dataset_inputs
        assert used.dataset.name == "records"
        assert used.dataset.source == '{"uri": "C:labels"}'
        assert used.dataset.source_type == "local"
        assert [tag.value for tag in used.tags] == ["training"]


def test_a_permanent_error_is_raised(workspace: Workspace) -> None:
    client = connect(workspace)
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, params=[Param("rate", "1")])
    with pytest.raises(MlflowException, match="not allowed"):
        client.log_batch(run_id, params=[Param("rate", "2")])
