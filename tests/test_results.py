"""The table of results: means over seeds with intervals over rows, out of a real MLflow store."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.results import Recipe, read_recipe, refuse_other_rows, score_recipe, write_results
from conftest import SHIPPED, change_params
from mlflow.tracking import MlflowClient

from person_attributes.config import Params, read_params
from person_attributes.evaluation.predictions import Predictions

ROWS = 200
RIGHT = {1: 0.9, 2: 0.8}
"""Share of the rows that each seed has right, in every head."""


def _predict(params: Params, share: float) -> Predictions:
    y_true, y_prob = {}, {}
    for head, described in params.heads.items():
        classes = len(described.classes)
        truth = np.eye(classes, dtype=np.float32)[np.arange(ROWS) % classes]
        is_right = (np.arange(ROWS) < share * ROWS)[:, None]
        y_true[head] = truth
        y_prob[head] = 0.1 / classes + 0.9 * np.where(is_right, truth, np.roll(truth, 1, axis=1))
    return Predictions(np.arange(ROWS), y_true, y_prob)


def _log_execution(client: MlflowClient, experiment: str, folder: Path, seed: int) -> str:
    """Logs what an execution of the pipeline leaves in MLflow, as far as the table reads it."""
    params_file = folder / "params.yaml"
    params_file.write_bytes(SHIPPED.read_bytes())
    change_params(params_file, {"seed": seed})
    params = read_params(params_file)
    tags = {"mlflow.source.git.commit": "c0ffee", "split.digest": "5eed"}
    execution = str(client.create_run(experiment, tags=tags).info.run_id)
    client.log_param(execution, "seed", seed)
    for stage in (*(f"train@{phase}" for phase in params.phases), "evaluate"):
        tags = {"dvc.stage": stage, "mlflow.parentRunId": execution}
        run_id = client.create_run(experiment, tags=tags).info.run_id
        for step, loss in enumerate((9.0, 7.0, 8.0) if stage != "evaluate" else ()):
            client.log_metric(run_id, "val_loss", loss, step=step)
            client.log_metric(run_id, "val_mean_accuracy", 1 - loss / 10, step=step)
        if stage == "evaluate":
            test = folder / "test_predictions.npz"
            _predict(params, RIGHT[seed]).write(test)
            client.log_artifact(run_id, str(test))
            client.log_artifact(run_id, str(params_file))
            figures = {"loss": 7.0, "mean_accuracy": RIGHT[seed], "train_loss": 6.0}
            figures |= {"test_loss": 7.0, "test_mean_accuracy": RIGHT[seed], "test_rows": ROWS}
            figures |= {"test_mean_majority": 0.5, "test_shares_loss": 8.0}
            figures |= {f"test_{head}_majority": 0.5 for head in params.heads}
            figures["test_calibrated_loss"] = 6.9
            for name, value in figures.items():
                client.log_metric(run_id, name, value)
        client.set_terminated(run_id)
    return execution


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("results")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("a", artifact_location=(folder / "artifacts").as_uri())
    run_ids = [_log_execution(client, experiment, folder, seed) for seed in RIGHT]
    return read_recipe(client, f"a=b, ours={','.join(run_ids)}")


def test_a_recipe_is_read_seed_by_seed(recipe: Recipe) -> None:
    assert recipe.name == "a=b, ours"
    assert [one.seed for one in recipe.seeds] == [1, 2]
    phases = recipe.seeds[0].phases
    assert phases["val_loss"].tolist() == [7.0] * len(phases)  # of the best epoch, not the last
    assert phases["val_mean_accuracy"].tolist() == pytest.approx([0.3] * len(phases))
    assert recipe.seeds[0].curve == [9.0, 7.0, 8.0] * len(phases)


def test_figures_are_means_over_seeds_with_intervals_over_rows(
    recipe: Recipe, params: Params
) -> None:
    scores = score_recipe(recipe, params.evaluation)
    value, low, high = scores["mean", "accuracy"]
    assert value == pytest.approx(0.85)
    # Of each row the mean over seeds is 1, .5 or 0 in 80, 10 and 10 % of them.
    deviation = np.sqrt((0.8 + 0.1 / 4 - 0.85**2) / ROWS)
    assert low == pytest.approx(0.85 - 1.96 * deviation, abs=0.01)
    assert high == pytest.approx(0.85 + 1.96 * deviation, abs=0.01)
    losses = [scores[head, "loss"][0] for head in params.heads]
    assert scores["mean", "loss"][0] == pytest.approx(sum(losses))


def test_networks_of_other_rows_stand_in_no_table(recipe: Recipe) -> None:
    one = recipe.seeds[0]
    refuse_other_rows([recipe])
    others = replace(one, test=replace(one.test, rows=one.test.rows + 1))
    with pytest.raises(SystemExit, match="its test rows are others"):
        refuse_other_rows([recipe, Recipe("theirs", [others])])


def test_the_page_says_rows_seeds_and_what_others_report(
    recipe: Recipe, params: Params, tmp_path: Path
) -> None:
    theirs = Recipe("theirs", recipe.seeds[1:])
    write_results(tmp_path, "an abacus", [recipe, theirs], params.evaluation)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "200 test rows" in page
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
