"""The tags from which the MLflow UI shows the best executions."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow.tracking import MlflowClient

from person_attributes.tracking.connection import connect
from person_attributes.tracking.experiments import (
    arrange_experiment,
    describe_changes,
    name_metric,
)
from person_attributes.workspace import Workspace

NOTE, VIEW = "mlflow.note.content", "mlflow.sharedViewState.best"


@pytest.fixture
def client(workspace: Workspace) -> MlflowClient:
    return connect(workspace)


def test_an_experiment_links_a_view_of_its_best_executions(client: MlflowClient) -> None:
    experiment = client.create_experiment("attributes")
    arrange_experiment(client, experiment)
    tags = client.get_experiment(experiment).tags
    assert f"#/experiments/{experiment}/runs?viewStateShareKey=best" in tags[NOTE]
    view = json.loads(tags[VIEW])
    assert view["orderByKey"] == "metrics.`mean_accuracy`"
    assert not view["orderByAsc"]
    run = client.create_run(experiment, tags={"kind": "execution"})
    client.create_run(experiment, tags={"dvc.stage": "evaluate"})
    found = client.search_runs([experiment], view["searchFilter"])
    assert [one.info.run_id for one in found] == [run.info.run_id]


def test_existing_tags_of_an_experiment_are_kept(client: MlflowClient) -> None:
    experiment = client.create_experiment("attributes", tags={NOTE: "ours"})
    arrange_experiment(client, experiment)
    assert client.get_experiment(experiment).tags[NOTE] == "ours"
    assert VIEW in client.get_experiment(experiment).tags


def test_several_machines_can_start_an_experiment_at_once(client: MlflowClient) -> None:
    machines = 8
    experiment = client.create_experiment("attributes")
    barrier = threading.Barrier(machines)

    def start(_: int) -> None:
        barrier.wait()
        arrange_experiment(client, experiment)

    with ThreadPoolExecutor(machines) as pool:
        list(pool.map(start, range(machines)))
    assert VIEW in client.get_experiment(experiment).tags


def test_metrics_are_grouped() -> None:
    names = ["mean_accuracy", "mean_accuracy_low", "test_loss", "test_loss_high"]
    assert [name_metric(name) for name in names] == [
        "mean_accuracy",
        "intervals/mean_accuracy_low",
        "test/test_loss",
        "intervals/test_loss_high",
    ]


def test_changes_list_different_parameters_within_the_length_of_a_tag() -> None:
    assert describe_changes(None, {"a": "1"}) == "first execution"
    assert describe_changes({"a": "1", "b": "2"}, {"a": "1", "b": "2"}) == "no changes"
    assert describe_changes({"a": "1", "b": "2"}, {"b": "3", "c": "4"}) == (
        "a: 1 -> -; b: 2 -> 3; c: - -> 4"
    )
    many = {f"key{number}": "old" for number in range(500)}
    assert len(describe_changes(many, {})) == 500
