"""The page of results, computed from runs in a real MLflow store."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SHIPPED, change_params
from experiments.results import (
    Recipe,
    find_best,
    read_recipe,
    refuse_other_splits,
    score_recipe,
    write_results,
)
from mlflow.tracking import MlflowClient

from person_attributes.config import Params, read_params
from person_attributes.errors import ComparisonError
from person_attributes.evaluation.predictions import Predictions
from person_attributes.tracking.database import sqlite_address
from person_attributes.tracking.experiments import name_metric

ROWS = 200
RIGHT = {1: 0.9, 2: 0.8}
"""Accuracy of each seed, for every head."""


def _predict(params: Params, share: float) -> Predictions:
    y_true, y_prob = {}, {}
    for head, described in params.heads.items():
        classes = len(described.classes)
        truth = np.eye(classes, dtype=np.float32)[np.arange(ROWS) % classes]
        is_right = (np.arange(ROWS) < share * ROWS)[:, None]
        y_true[head] = truth
        predicted = np.where(is_right, truth, np.roll(truth, 1, axis=1))
        y_prob[head] = np.float32(0.1 / classes) + np.float32(0.9) * predicted
    return Predictions(np.arange(ROWS), y_true, y_prob)


def _log_execution(client: MlflowClient, experiment: str, folder: Path, seed: int) -> str:
    """Logs the runs, metrics and files of an execution that the page reads."""
    params_file = folder / "params.yaml"
    params_file.write_bytes(SHIPPED.read_bytes())
    change_params(params_file, {"seed": seed})
    params = read_params(params_file)
    execution = str(client.create_run(experiment).info.run_id)
    for stage in (*(f"train@{phase}" for phase in params.phases), "evaluate"):
        tags = {"dvc.stage": stage, "mlflow.parentRunId": execution, "split.digest": "5eed"}
        tags |= {"mlflow.source.git.commit": "c0ffee"}
        run_id = client.create_run(experiment, tags=tags).info.run_id
        for step, loss in enumerate((9.0, 7.0, 8.0) if stage != "evaluate" else ()):
            client.log_metric(run_id, "val_loss", loss, step=step)
            client.log_metric(run_id, "val_mean_accuracy", 1 - loss / 10, step=step)
        if stage == "evaluate":
            test = folder / "test_predictions.npz"
            _predict(params, RIGHT[seed]).write(test)
            client.log_artifact(run_id, str(test))
            client.log_artifact(run_id, str(params_file))
            metrics = {"loss": 7.0, "mean_accuracy": 1 - RIGHT[seed], "train_loss": 6.0}
            metrics |= {"prior_loss": 8.0, "test_prior_loss": 8.0, "test_mean_majority": 0.5}
            metrics |= {f"test_{head}_majority": 0.5 for head in params.heads}
            metrics |= {f"test_mean_accuracy{end}": RIGHT[seed] for end in ("", "_low", "_high")}
            metrics |= {"test_loss": 7.0, "test_calibrated_loss": 6.9, "test_rows": ROWS}
            metrics |= {"test_mean_ece": 0.1, "test_mean_calibrated_ece": 0.05}
            for name, value in metrics.items():
                client.log_metric(run_id, name_metric(name), value)
        client.set_terminated(run_id)
    return execution


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def client(folder: Path) -> MlflowClient:
    return MlflowClient(sqlite_address(folder / "mlflow.db"))


@pytest.fixture(scope="module")
def recipe(folder: Path, client: MlflowClient) -> Recipe:
    experiment = client.create_experiment("a", artifact_location=(folder / "artifacts").as_uri())
    run_ids = [_log_execution(client, experiment, folder, seed) for seed in RIGHT]
    return read_recipe(client, f"a=b, ours={','.join(run_ids)}")


def test_a_recipe_is_read_by_seed(recipe: Recipe) -> None:
    assert recipe.name == "a=b, ours"
    assert [one.seed for one in recipe.seeds] == [1, 2]
    phases = recipe.seeds[0].phases
    assert phases["val_loss"].tolist() == [7.0] * len(phases)  # of the best epoch, not the last
    assert phases["val_mean_accuracy"].tolist() == pytest.approx([0.3] * len(phases))
    assert recipe.seeds[0].curve == [9.0, 7.0, 8.0] * len(phases)


def test_metrics_are_means_over_seeds_with_intervals_over_rows(
    recipe: Recipe, params: Params
) -> None:
    scores = score_recipe(recipe, params.evaluation)
    value, low, high = scores["mean", "accuracy"]
    assert value == pytest.approx(0.85)
    # The mean over seeds is 1, .5 and 0 in 80, 10 and 10 % of the rows.
    deviation = np.sqrt((0.8 + 0.1 / 4 - 0.85**2) / ROWS)
    assert low == pytest.approx(0.85 - 1.96 * deviation, abs=0.005)
    assert high == pytest.approx(0.85 + 1.96 * deviation, abs=0.005)
    losses = [scores[head, "loss"][0] for head in params.heads]
    assert scores["mean", "loss"][0] == pytest.approx(sum(losses))


def test_validation_rows_select_the_best_seed(recipe: Recipe) -> None:
    assert find_best(recipe).seed == 2  # seed 1 is better on the test rows


def test_networks_with_other_rows_are_refused(recipe: Recipe) -> None:
    one = recipe.seeds[0]
    refuse_other_splits([recipe])
    for other, message in (
        (replace(one, split="other"), "same split"),
        (replace(one, test=replace(one.test, rows=one.test.rows + 1)), "rows differ"),
        (replace(one, test=replace(one.test, y_true=one.test.y_prob)), "labels of gender differ"),
    ):
        with pytest.raises(ComparisonError, match=message):
            refuse_other_splits([recipe, Recipe("theirs", [other])])


def test_reused_stages_of_an_execution_are_found(recipe: Recipe, client: MlflowClient) -> None:
    """An execution may run only the evaluation again."""
    earlier = client.get_run(recipe.seeds[0].run_id)
    stages = {
        run.data.tags["dvc.stage"]: run.info.run_id
        for run in client.search_runs([earlier.info.experiment_id])
        if run.data.tags.get("mlflow.parentRunId") == earlier.info.run_id
    }
    tags = {f"reused.{stage.replace('@', ' ')}": run_id for stage, run_id in stages.items()}
    again = client.create_run(earlier.info.experiment_id, tags=tags).info.run_id
    assert read_recipe(client, f"ours={again}").seeds[0].curve == recipe.seeds[0].curve
    client.delete_tag(again, "reused.train p1")
    with pytest.raises(ComparisonError, match="no finished run of train@p1"):
        read_recipe(client, f"ours={again}")


def test_the_page_has_rows_seeds_and_published_results(recipe: Recipe, tmp_path: Path) -> None:
    theirs = Recipe("theirs", recipe.seeds[1:])
    write_results(tmp_path, "an abacus", [recipe, theirs])
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "200 held-out test rows" in page
    assert "an abacus" in page
    assert "| a=b, ours | 2 | 200 |" in page
    assert "| 0.688 | 6.114 |" in page
    assert "\n| pose | 0.850 (" in page
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md",
        "classes.csv",
        "curves.png",
        "heads.csv",
        "heads.png",
        "runs.csv",
        "slices.csv",
    }
