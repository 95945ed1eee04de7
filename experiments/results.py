"""Compares recipes on held-out test rows: reads runs of MLflow and writes docs/results/.

    python -m experiments.results "two cores of ..." "ours=RUN_ID,RUN_ID,RUN_ID" "theirs=RUN_ID"

The ids are those of executions in the MLflow UI, one for each seed of a recipe. Set
MLFLOW_TRACKING_URI if they are not in mlflow.db. The first recipe is the main one. The output
contains only metrics and plots: no images and no row numbers.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from person_attributes.config import EvaluationParams, Params, read_params, read_yaml
from person_attributes.drawing.figures import GREY, add_panels, new_figure, to_png
from person_attributes.errors import ComparisonError, PersonAttributesError
from person_attributes.evaluation import comparison, metrics
from person_attributes.evaluation.bootstrap import bootstrap
from person_attributes.evaluation.metrics import Estimate
from person_attributes.evaluation.predictions import Predictions
from person_attributes.evaluation.scores import score_classes
from person_attributes.evaluation.slices import find_unlike_slices, score_slices
from person_attributes.tracking.connection import connect, translate_mlflow_errors
from person_attributes.tracking.executions import find_stage
from person_attributes.workspace import Workspace

_ROOT = Path(__file__).parent.parent
_PUBLISHED = read_yaml(Path(__file__).with_suffix(".yaml"))["published"]
_COLOURS = ("#2a6f97", "#e07a5f", "#6a994e", "#9d4edd")
_MEAN = "mean"
_ACCURACY, _LOSS = "accuracy", "loss"
_Scores = dict[tuple[str, str], Estimate]


@dataclass(frozen=True)
class Trained:
    """One seed of a recipe.

    Attributes:
        run_id: The id of the execution.
        seed: The seed of weights, order and augmentation.
        commit: The commit of the code.
        split: Digest of the split.
        params: All parameters.
        hours: Total duration of the phases.
        metrics: The metrics of `evaluate`, by their names in `reports/metrics.json`.
        phases: One row per phase: `phase`, `image_size`, `epochs`, `hours`, and `val_loss` and
            `val_mean_accuracy` of the best epoch.
        curve: Validation loss of every epoch of all phases.
        test: Predictions for the test rows.
    """

    run_id: str
    seed: int
    commit: str
    split: str
    params: Params
    hours: float
    metrics: Mapping[str, float]
    phases: pd.DataFrame
    curve: list[float]
    test: Predictions


@dataclass(frozen=True)
class Recipe:
    """A recipe and its seeds, all evaluated on the same rows."""

    name: str
    seeds: Sequence[Trained]

    @property
    def hours(self) -> float:
        return float(np.mean([one.hours for one in self.seeds]))


def read_recipe(client: MlflowClient, named: str) -> Recipe:
    """Reads the runs of `NAME=RUN_ID,RUN_ID`, with one run per seed."""
    name, _, run_ids = named.rpartition("=")
    return Recipe(name, [_read_trained(client, run_id) for run_id in run_ids.split(",")])


def _read_trained(client: MlflowClient, run_id: str) -> Trained:
    execution = client.get_run(run_id)
    # The stage may belong to an earlier execution whose outputs this one reused.
    scored = _find_stage(client, execution, "evaluate")
    with tempfile.TemporaryDirectory() as folder:
        test, params_file = (
            Path(client.download_artifacts(scored.info.run_id, name, folder))
            for name in ("test_predictions.npz", "params.yaml")
        )
        predictions, params = Predictions.read(test), read_params(params_file)
    if not len(predictions.rows):
        raise ComparisonError(f"run {run_id}: no test rows. Set split.test_share above 0.")
    phases, curve = _read_phases(client, execution, params)
    return Trained(
        run_id=run_id,
        seed=params.seed,
        commit=scored.data.tags.get(MLFLOW_GIT_COMMIT, ""),
        split=scored.data.tags["split.digest"],
        params=params,
        hours=float(phases["hours"].sum()),
        # In MLflow the name of a metric starts with its group.
        metrics={key.rpartition("/")[2]: value for key, value in scored.data.metrics.items()},
        phases=phases,
        curve=curve,
        test=predictions,
    )


def _read_phases(
    client: MlflowClient, execution: Run, params: Params
) -> tuple[pd.DataFrame, list[float]]:
    """Reads the table of phases and the validation loss of every epoch."""
    phases, curve = [], []
    for phase, described in params.phases.items():
        trained = _find_stage(client, execution, f"train@{phase}")
        losses = _read_history(client, trained, "val_loss")
        accuracies = _read_history(client, trained, "val_mean_accuracy")
        best = int(np.argmin(losses))
        phases.append(
            {
                "phase": phase,
                "image_size": str(described.image_size),
                "epochs": len(losses),
                "hours": (trained.info.end_time - trained.info.start_time) / 3.6e6,
                "val_loss": losses[best],
                "val_mean_accuracy": accuracies[best],
            }
        )
        curve += losses
    return pd.DataFrame(phases), curve


def _find_stage(client: MlflowClient, execution: Run, stage: str) -> Run:
    found = find_stage(client, execution, stage)
    if found is None:
        raise ComparisonError(
            f"run {execution.info.run_id}: no finished run of {stage}. Expected a finished "
            "execution of the pipeline. Correct the id."
        )
    return found


def _read_history(client: MlflowClient, run: Run, key: str) -> list[float]:
    history = client.get_metric_history(run.info.run_id, key)
    return [entry.value for entry in sorted(history, key=lambda entry: entry.step)]


def score_recipe(recipe: Recipe, params: EvaluationParams) -> _Scores:
    """Computes the metrics of each head and their totals, as means over seeds.

    Returns:
        `{(head, metric): (value, low, high)}`. The intervals are bootstrapped over rows, with the
        same draws for all seeds.
    """
    y_true = recipe.seeds[0].test.y_true

    def compute(weights: metrics.Floats) -> dict[tuple[str, str], metrics.Floats]:
        found: dict[tuple[str, str], metrics.Floats] = {}
        for head, truth in y_true.items():
            y_prob = [one.test.y_prob[head] for one in recipe.seeds]
            accuracies = [metrics.accuracy(truth, each, weights) for each in y_prob]
            losses = [metrics.cross_entropy(truth, each, weights) for each in y_prob]
            found[head, _ACCURACY] = np.mean(accuracies, 0)
            found[head, _LOSS] = np.mean(losses, 0)
        found[_MEAN, _ACCURACY] = np.mean([found[head, _ACCURACY] for head in y_true], 0)
        found[_MEAN, _LOSS] = np.sum([found[head, _LOSS] for head in y_true], 0)
        return found

    rows = len(recipe.seeds[0].test.rows)
    return bootstrap(compute, rows, params, seed=0)


def refuse_other_splits(recipes: Sequence[Recipe]) -> None:
    """Checks that all networks were evaluated on the same rows.

    Raises:
        ComparisonError: If splits, rows, heads or labels differ: evaluate all on the same split.
    """
    first = recipes[0].seeds[0]
    for recipe in recipes:
        for one in recipe.seeds:
            if one.split != first.split:
                raise ComparisonError(
                    f"run {one.run_id}: expected split {first.split} of run {first.run_id}. "
                    f"Received: {one.split}. Train and evaluate all runs on the same split."
                )
            comparison.refuse_other_rows(first.test, one.test)


def write_results(folder: Path, machine: str, recipes: Sequence[Recipe]) -> None:
    """Writes the page, its tables and its plots.

    Args:
        folder: The folder; it is created if it is missing.
        machine: A description of the machine that trained the networks.
        recipes: The recipes. The first one is the main recipe; its parameters define intervals.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best = find_best(recipes[0])
    params = recipes[0].seeds[0].params.evaluation
    scores = [score_recipe(recipe, params) for recipe in recipes]
    _list_runs(recipes).to_csv(folder / "runs.csv", index=False, lineterminator="\n")
    _list_heads(recipes, scores).to_csv(folder / "heads.csv", index=False, lineterminator="\n")
    classes = {name: list(head.classes) for name, head in best.params.heads.items()}
    arguments = (best.test.y_true, best.test.y_prob, classes)
    slices = score_slices(*arguments, params, seed=0)
    by_class = score_classes(*arguments, params.confidence)
    for name, table in (("classes", by_class), ("slices", slices)):
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n", float_format="%.4f")
    (folder / "curves.png").write_bytes(_draw_curves(recipes))
    (folder / "heads.png").write_bytes(_draw_heads(recipes, scores))
    page = "\n".join(_format_page(machine, recipes, scores, slices))
    (folder / "README.md").write_text(page + "\n", encoding="utf-8")


def _list_runs(recipes: Sequence[Recipe]) -> pd.DataFrame:
    names = (
        "rows",
        "mean_accuracy",
        "mean_accuracy_low",
        "mean_accuracy_high",
        "loss",
        "calibrated_loss",
        "mean_ece",
        "mean_calibrated_ece",
    )
    return pd.DataFrame(
        [
            {
                "recipe": recipe.name,
                "seed": one.seed,
                "run_id": one.run_id,
                "commit": one.commit,
                "split": one.split,
                "hours": round(one.hours, 2),
            }
            | {f"test_{name}": one.metrics[f"test_{name}"] for name in names}
            | {name: one.metrics[name] for name in ("mean_accuracy", "loss", "train_loss")}
            for recipe in recipes
            for one in recipe.seeds
        ]
    )


def _list_heads(recipes: Sequence[Recipe], scores: Sequence[_Scores]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (recipe.name, head, metric, *interval)
            for recipe, scored in zip(recipes, scores, strict=True)
            for (head, metric), interval in scored.items()
        ],
        columns=["recipe", "head", "metric", "value", "low", "high"],
    )


def find_best(recipe: Recipe) -> Trained:
    """Returns the seed with the highest mean accuracy on validation rows."""
    return max(recipe.seeds, key=lambda one: one.metrics["mean_accuracy"])


def _draw_curves(recipes: Sequence[Recipe]) -> bytes:
    figure = new_figure(9, 4)
    axis = figure.subplots()
    for recipe, colour in zip(recipes, _COLOURS, strict=False):
        for number, one in enumerate(recipe.seeds):
            label = recipe.name if number == 0 else None
            axis.plot(range(1, len(one.curve) + 1), one.curve, color=colour, lw=1, label=label)
    prior = recipes[0].seeds[0].metrics["prior_loss"]
    axis.axhline(prior, color=GREY, ls=":", label="class prior")
    for (name, published), style in zip(_PUBLISHED.items(), ("--", "-."), strict=True):
        if _LOSS in published:
            axis.axhline(published[_LOSS], color=GREY, ls=style, label=name)
    # Clip single epochs with a high loss, which would flatten all curves.
    lowest = [min(one.curve) for recipe in recipes for one in recipe.seeds]
    lowest += [published[_LOSS] for published in _PUBLISHED.values() if _LOSS in published]
    axis.set_ylim(min(lowest) - 0.1, prior + 0.3)
    axis.set_xlabel("epoch, over all phases")
    axis.set_ylabel("sum of validation losses")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return _on_white(figure)


def _draw_heads(recipes: Sequence[Recipe], scores: Sequence[_Scores]) -> bytes:
    heads = list(recipes[0].seeds[0].test.y_true)
    figure = new_figure(11, 4.6)
    majorities = recipes[0].seeds[0].metrics
    for axis, head in zip(add_panels(figure, len(heads), 4), heads, strict=True):
        for place, (recipe, scored) in enumerate(zip(recipes, scores, strict=True)):
            value, low, high = scored[head, _ACCURACY]
            spread = [[value - low], [high - value]]
            axis.bar(place, value, color=_COLOURS[place], label=recipe.name)
            axis.errorbar(place, value, yerr=spread, color="black", capsize=3)
        for place, (name, published) in enumerate(_PUBLISHED.items(), len(recipes)):
            axis.bar(place, published["accuracy"][head], color=GREY, alpha=0.9 - 0.3 * place / 3)
            axis.text(place, 0.02, name.split(" (")[0], rotation=90, ha="center", fontsize=7)
        axis.axhline(majorities[f"test_{head}_majority"], color="#e5484d", lw=1)
        axis.set_title(head, fontsize=10)
        axis.set_ylim(0, 1)
        axis.set_xticks([])
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.suptitle("Accuracy on test rows; red: majority-class baseline", fontsize=10)
    return _on_white(figure)


def _on_white(figure: Figure) -> bytes:
    figure.set_facecolor("white")
    return to_png(figure)


def _format_page(
    machine: str, recipes: Sequence[Recipe], scores: Sequence[_Scores], slices: pd.DataFrame
) -> Iterator[str]:
    first = recipes[0].seeds[0]
    confidence = first.params.evaluation.confidence
    yield "# Results on the real images"
    yield ""
    yield (
        "`experiments/results.py` writes this page from MLflow. All recipes of this project are "
        f"evaluated on the same {len(first.test.rows)} held-out test rows (split "
        f"`{first.split[:16]}`). Pairs that the search for near-duplicates finds are in one part. "
        f"Values are means over seeds with {100 * confidence:g} % intervals, "
        f"bootstrapped over rows. Machine: {machine}."
    )
    yield ""
    yield from _format_conditions(recipes, scores)
    yield ""
    yield from _format_heads(recipes, scores)
    yield ""
    yield "![Accuracy of each head](heads.png)"
    yield ""
    yield "## Seeds"
    yield ""
    yield from _format_seeds(recipes)
    yield ""
    yield "## Phases"
    yield ""
    yield "Metrics on validation rows at the best epoch of each phase, as means over seeds."
    yield ""
    yield from _format_phases(recipes)
    yield ""
    yield "![Validation loss by epoch](curves.png)"
    yield ""
    yield f"## Weak slices of seed {find_best(recipes[0]).seed}"
    yield ""
    yield (
        "A slice is the test rows of one class of another head. The table lists at most ten slices "
        "on which the accuracy of a head is significantly lower than on the other rows, the worst "
        f"first. {(~slices['too_small']).sum()} slices are large enough. Fisher's exact test is "
        "corrected for their number (Benjamini and Hochberg 1995): at most "
        f"{1 - confidence:.0%} of the listed slices are expected to be listed by chance. Intervals "
        "are those of Wilson (1927) and Newcombe (1998)."
    )
    yield ""
    yield from _format_slices(slices, confidence)
    yield ""
    yield (
        "`heads.csv` has all heads with intervals, `classes.csv` recall, precision and F1 of all "
        "classes, `slices.csv` all slices, and `runs.csv` the runs."
    )


def _format_conditions(recipes: Sequence[Recipe], scores: Sequence[_Scores]) -> Iterator[str]:
    yield "| | seeds | rows | hours per seed | mean accuracy | sum of losses |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for recipe, scored in zip(recipes, scores, strict=True):
        rows = len(recipe.seeds[0].test.rows)
        yield (
            f"| {recipe.name} | {len(recipe.seeds)} | {rows} | {recipe.hours:.1f} "
            f"| {_format_interval(scored[_MEAN, _ACCURACY])} "
            f"| {_format_interval(scored[_MEAN, _LOSS])} |"
        )
    baselines = recipes[0].seeds[0].metrics
    yield (
        f"| majority class (accuracy), class prior (loss) | | {int(baselines['test_rows'])} | "
        f"| {baselines['test_mean_majority']:.3f} | {baselines['test_prior_loss']:.3f} |"
    )
    for name, published in _PUBLISHED.items():
        mean = np.mean(list(published["accuracy"].values()))
        loss = f"{published[_LOSS]:.3f}" if _LOSS in published else ""
        yield f"| [{name}]({published['url']}) | 1 | | | {mean:.3f} | {loss} |"


def _format_heads(recipes: Sequence[Recipe], scores: Sequence[_Scores]) -> Iterator[str]:
    heads = list(recipes[0].seeds[0].test.y_true)
    baselines = recipes[0].seeds[0].metrics
    names = [*(recipe.name for recipe in recipes), "majority class", *_PUBLISHED]
    yield f"| accuracy | {' | '.join(names)} |"
    yield f"| --- |{' --- |' * len(names)}"
    for head in heads:
        cells = [_format_interval(scored[head, _ACCURACY]) for scored in scores]
        cells.append(f"{baselines[f'test_{head}_majority']:.3f}")
        cells += [f"{published['accuracy'][head]:.3f}" for published in _PUBLISHED.values()]
        yield f"| {head} | {' | '.join(cells)} |"


def _format_seeds(recipes: Sequence[Recipe]) -> Iterator[str]:
    yield "| | seed | mean accuracy | sum of losses | after temperature scaling | hours |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for recipe in recipes:
        for one in recipe.seeds:
            yield (
                f"| {recipe.name} | {one.seed} | {one.metrics['test_mean_accuracy']:.3f} "
                f"| {one.metrics['test_loss']:.3f} | {one.metrics['test_calibrated_loss']:.3f} "
                f"| {one.hours:.2f} |"
            )


def _format_phases(recipes: Sequence[Recipe]) -> Iterator[str]:
    yield "| | phase | images | epochs | hours | sum of losses | mean accuracy |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for recipe in recipes:
        tables = pd.concat(one.phases for one in recipe.seeds)
        means = tables.groupby(["phase", "image_size"], sort=False).mean().reset_index()
        for row in means.itertuples():
            yield (
                f"| {recipe.name} | {row.phase} | {row.image_size} | {row.epochs:.0f} "
                f"| {row.hours:.2f} | {row.val_loss:.3f} | {row.val_mean_accuracy:.3f} |"
            )


def _format_slices(slices: pd.DataFrame, confidence: float) -> Iterator[str]:
    yield "| head | slice | rows | accuracy | difference to other rows |"
    yield "| --- | --- | --- | --- | --- |"
    unlike = find_unlike_slices(slices, confidence)
    for row in unlike[unlike["apart"] < 0].head(10).to_dict("records"):
        accuracy, apart = (
            _format_interval((row[name], row[f"{name}_low"], row[f"{name}_high"]))
            for name in (_ACCURACY, "apart")
        )
        where = f"{row['by']} is {row['class']}"
        yield f"| {row['head']} | {where} | {row['rows']} | {accuracy} | {apart} |"


def _format_interval(interval: Estimate) -> str:
    value, low, high = interval
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Reads the runs and writes the folder."""
    parser = argparse.ArgumentParser("python -m experiments.results")
    parser.add_argument("machine", help="description of the machine that trained the runs")
    parser.add_argument("recipes", nargs="+", metavar="NAME=RUN_ID,RUN_ID")
    options = parser.parse_args()
    if len(options.recipes) > len(_COLOURS):
        parser.error(f"{len(options.recipes)} recipes. Expected {len(_COLOURS)} at most.")
    try:
        with translate_mlflow_errors():
            client = connect(Workspace(_ROOT))
            recipes = [read_recipe(client, named) for named in options.recipes]
        refuse_other_splits(recipes)
    except PersonAttributesError as error:
        parser.error(str(error))
    write_results(_ROOT / "docs" / "results", options.machine, recipes)
    print("docs/results/README.md")


if __name__ == "__main__":
    main()
