"""Metrics with confidence intervals: per head, per class and over all heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import EvaluationParams
from person_attributes.evaluation import metrics
from person_attributes.evaluation.bootstrap import bootstrap
from person_attributes.evaluation.calibration_error import (
    estimate_calibration_error,
    simulate_calibrated,
)
from person_attributes.evaluation.metrics import Estimate, Floats, OneHot
from person_attributes.evaluation.predictions import Predictions
from person_attributes.evaluation.proportions import estimate_proportion

HEAD_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "loss", "ece")
"""Metrics of a head that are reported with an interval; `ece` is the expected calibration error."""

_CALIBRATED_METRICS = ("calibrated_loss", "calibrated_ece")

_OVERALL_METRICS = (
    "mean_accuracy",
    "loss",
    "calibrated_loss",
    "mA",
    "instance_precision",
    "instance_recall",
    "instance_f1",
)

_MEAN_METRICS = ("ece", "calibrated_ece", "ece_if_calibrated", "majority")
"""Metrics of heads whose mean over the heads is a metric, too."""


@dataclass(frozen=True)
class Scores:
    """Metrics of predictions, with intervals.

    Attributes:
        heads: One row per head: `rows` with a label; `HEAD_METRICS`, `calibrated_loss` and
            `calibrated_ece`, each with `_low` and `_high`; `ece_if_calibrated`, the mean
            `calibrated_ece` of a perfectly calibrated network; `majority`, the accuracy of the
            majority-class baseline; `prior_loss`, the cross-entropy of predicting the class prior.
        overall: One row per metric over all heads, with columns `value`, `low` and `high`. `loss`
            is the unweighted sum of the heads' cross-entropies.
        rows: Number of scored rows.
    """

    heads: pd.DataFrame
    overall: pd.DataFrame
    rows: int

    def __getitem__(self, metric: str) -> float:
        """Returns a metric over all heads."""
        return float(self.overall["value"][metric])

    def to_metrics(self) -> dict[str, float]:
        """Returns all metrics by the names that MLflow and `dvc metrics` show."""
        named = {str(name): self[str(name)] for name in self.overall.index}
        for end in ("low", "high"):
            named[f"mean_accuracy_{end}"] = float(self.overall[end]["mean_accuracy"])
        for name in _MEAN_METRICS:
            named[f"mean_{name}"] = float(self.heads[name].mean())
        named["prior_loss"] = float(self.heads["prior_loss"].sum())
        named["rows"] = self.rows
        for head, row in self.heads.iterrows():
            for name in (*HEAD_METRICS, *_CALIBRATED_METRICS, "ece_if_calibrated", "majority"):
                named[f"{head}_{name}"] = float(row[name])
        return named


def read_heads(path: Path) -> pd.DataFrame:
    """Reads the CSV file of `Scores.heads`; the name of a head may look like a missing value."""
    return pd.read_csv(path, index_col="head", keep_default_na=False, na_values=[""])


def score(
    predictions: Predictions,
    calibrated: OneHot,
    y_train: OneHot,
    params: EvaluationParams,
    seed: int,
) -> Scores:
    """Scores all heads on the same rows.

    Args:
        predictions: Labels and predicted probabilities of the scored rows.
        calibrated: The probabilities after temperature scaling.
        y_train: One-hot labels of the training rows, for the baselines.
        params: Confidence level, number of bootstrap samples and number of calibration bins.
        seed: Random seed of the bootstrap and of the simulation of calibrated networks.
    """
    y_true, rows = predictions.y_true, len(predictions.rows)
    compute = partial(_score_heads, predictions, calibrated)
    estimates = bootstrap(compute, rows, params, seed)
    for head, truth in y_true.items():
        direct = estimate_head(truth, predictions.y_prob[head], params)
        direct["calibrated_ece"] = estimate_head(truth, calibrated[head], params)["ece"]
        estimates |= {(head, name): value for name, value in direct.items()}
    names = (*HEAD_METRICS, *_CALIBRATED_METRICS)
    heads = tabulate(
        {head: {name: estimates[head, name] for name in names} for head in y_true}, names
    )
    heads.insert(0, "rows", [int(truth.any(axis=1).sum()) for truth in y_true.values()])
    heads = heads.join(_compute_references(y_true, calibrated, y_train, params, seed))
    heads.index.name = "head"
    overall = pd.DataFrame(
        {name: estimates["", name] for name in _OVERALL_METRICS}, ["value", "low", "high"]
    ).T
    overall.index.name = "metric"
    return Scores(heads, overall, rows)


def _compute_references(
    y_true: OneHot, calibrated: OneHot, y_train: OneHot, params: EvaluationParams, seed: int
) -> pd.DataFrame:
    """Computes what a calibrated network and simple predictions would show on the same rows."""
    random = np.random.default_rng(seed)
    rows = {
        head: {
            "ece_if_calibrated": simulate_calibrated(
                truth, calibrated[head], params, random
            ).mean(),
            "majority": metrics.majority_accuracy(truth, y_train[head]),
            "prior_loss": metrics.prior_loss(truth, y_train[head]),
        }
        for head, truth in y_true.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _score_heads(
    predictions: Predictions, calibrated: OneHot, weights: Floats
) -> dict[tuple[str, str], Floats]:
    """Computes metrics by `(head, metric)`; metrics over all heads have the head `""`."""
    y_true, y_prob = predictions.y_true, predictions.y_prob
    found: dict[tuple[str, str], Floats] = {}
    accuracies, counts = [], {}
    for head, truth in y_true.items():
        counts[head] = metrics.count_classes(truth, y_prob[head], weights)
        accuracies.append(metrics.accuracy(truth, y_prob[head], weights))
        values = score_head(truth, y_prob[head], weights)
        values["calibrated_loss"] = metrics.cross_entropy(truth, calibrated[head], weights)
        found |= {(head, name): value for name, value in values.items()}
    overall = {
        # A head without labels in a sample is ignored.
        "mean_accuracy": metrics.mean_of_known(np.stack(accuracies, axis=-1)),
        "mA": metrics.mean_attribute_accuracy(counts),
        **metrics.instance_scores(y_true, y_prob, weights),
    }
    for name in ("loss", "calibrated_loss"):
        overall[name] = np.nansum([found[head, name] for head in y_true], axis=0)
    return found | {("", name): value for name, value in overall.items()}


def score_head(
    y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32], weights: Floats
) -> dict[str, Floats]:
    """Computes the metrics of a head whose intervals are bootstrapped."""
    counts = metrics.count_classes(y_true, y_prob, weights)
    return {
        "balanced_accuracy": metrics.balanced_accuracy(counts),
        "macro_f1": metrics.macro_f1(counts),
        "loss": metrics.cross_entropy(y_true, y_prob, weights),
    }


def estimate_head(
    y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32], params: EvaluationParams
) -> dict[str, Estimate]:
    """Estimates the metrics of a head whose intervals have a formula."""
    labelled = y_true.any(axis=1)
    is_right = y_true.argmax(axis=1) == y_prob.argmax(axis=1)
    right, rows = int(is_right[labelled].sum()), int(labelled.sum())
    return {
        "accuracy": estimate_proportion(right, rows, params.confidence),
        "ece": estimate_calibration_error(y_true, y_prob, params),
    }


def score_classes(
    y_true: OneHot, y_prob: OneHot, classes: Mapping[str, Sequence[str]], confidence: float
) -> pd.DataFrame:
    """Scores each class of each head.

    Returns:
        One row per class: `head`, `class`, `rows`, and `recall`, `precision` and `f1` with
        intervals.
    """
    estimates: dict[tuple[str, str], dict[str, Estimate]] = {}
    for head, names in classes.items():
        counts = metrics.count_classes(y_true[head], y_prob[head])
        for number, name in enumerate(names):
            right, rows = int(counts.right[number]), int(counts.true[number])
            predicted = int(counts.predicted[number])
            either = estimate_proportion(right, rows + predicted - right, confidence)
            # F1 is a function of the share of right rows among those labelled or predicted so.
            share, low, high = (2 * end / (1 + end) for end in either)
            estimates[head, name] = {
                "recall": estimate_proportion(right, rows, confidence),
                "precision": estimate_proportion(right, predicted, confidence),
                "f1": (share, low, high),
            }
    table = tabulate(estimates, ("recall", "precision", "f1"))
    table.index = pd.MultiIndex.from_tuples(list(estimates), names=["head", "class"])
    rows_of_heads = [y_true[head].sum(axis=0).astype(int) for head in classes]
    table.insert(0, "rows", np.concatenate(rows_of_heads))
    return table.reset_index()


def tabulate(estimates: Mapping[Any, Mapping[str, Estimate]], names: Sequence[str]) -> pd.DataFrame:
    """Builds a table with the columns `NAME`, `NAME_low` and `NAME_high` for each metric."""
    return pd.DataFrame(
        [[number for name in names for number in row[name]] for row in estimates.values()],
        index=pd.Index(list(estimates), tupleize_cols=False),
        columns=[f"{name}{end}" for name in names for end in ("", "_low", "_high")],
        dtype=float,
    )
