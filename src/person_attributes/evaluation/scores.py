"""Metrics with confidence intervals: per head, per class, per slice and over all heads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import EvaluationParams
from person_attributes.evaluation import metrics
from person_attributes.evaluation.metrics import Floats, OneHot
from person_attributes.evaluation.predictions import Predictions

HEAD_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "loss", "ece")
"""Metrics of a head that are reported with an interval; `ece` is the expected calibration error."""

_CALIBRATED_METRICS = ("calibrated_loss", "calibrated_ece")

_OVERALL_METRICS = (
    "mean_accuracy",
    "loss",
    "calibrated_loss",
    "mean_ece",
    "mean_calibrated_ece",
    "mA",
    "instance_precision",
    "instance_recall",
    "instance_f1",
)

Key = TypeVar("Key")

_SIGNIFICANT_BIAS = 3.0
"""Standard errors above which the bias of the bootstrap samples is corrected."""

_CELLS_AT_ONCE = 20_000_000
"""Maximum number of samples times rows in memory at once."""


@dataclass(frozen=True)
class Scores:
    """Metrics of predictions, with intervals.

    Attributes:
        heads: One row per head: `rows` with a label; `HEAD_METRICS`, `calibrated_loss` and
            `calibrated_ece`, each with `_low` and `_high`; `majority`, the accuracy of the
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
        named["mean_majority"] = float(self.heads["majority"].mean())
        named["prior_loss"] = float(self.heads["prior_loss"].sum())
        named["rows"] = self.rows
        for head, row in self.heads.iterrows():
            for name in (*HEAD_METRICS, *_CALIBRATED_METRICS, "majority"):
                named[f"{head}_{name}"] = float(row[name])
        return named


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
        seed: Random seed of the bootstrap.
    """
    y_true, rows = predictions.y_true, len(predictions.rows)
    compute = partial(_score_heads, predictions, calibrated, params.calibration_bins)
    estimates = estimate(compute, rows, params, seed)
    names = (*HEAD_METRICS, *_CALIBRATED_METRICS)
    heads = _tabulate(
        {head: {name: estimates[head, name] for name in names} for head in y_true}, names
    )
    heads.index.name = "head"
    heads.insert(0, "rows", [int(truth.any(axis=1).sum()) for truth in y_true.values()])
    for name, baseline in (
        ("majority", metrics.majority_accuracy),
        ("prior_loss", metrics.prior_loss),
    ):
        heads[name] = [baseline(truth, y_train[head]) for head, truth in y_true.items()]
    overall = pd.DataFrame(
        {name: estimates["", name] for name in _OVERALL_METRICS}, ["value", "low", "high"]
    ).T
    overall.index.name = "metric"
    return Scores(heads, overall, rows)


def _score_heads(
    predictions: Predictions, calibrated: OneHot, bins: int, weights: Floats
) -> dict[tuple[str, str], Floats]:
    """Computes metrics by `(head, metric)`; metrics over all heads have the head `""`."""
    y_true, y_prob = predictions.y_true, predictions.y_prob
    found: dict[tuple[str, str], Floats] = {}
    for head, truth in y_true.items():
        values = _score_head(truth, y_prob[head], weights, bins)
        after = _score_head(truth, calibrated[head], weights, bins)
        values |= {f"calibrated_{name}": after[name] for name in ("loss", "ece")}
        found |= {(head, name): value for name, value in values.items()}
    confusions = {
        head: metrics.count_confusions(truth, y_prob[head], weights)
        for head, truth in y_true.items()
    }
    overall = _aggregate_heads(list(y_true), found)
    overall["mA"] = metrics.mean_attribute_accuracy(confusions)
    overall |= metrics.instance_scores(y_true, y_prob, weights)
    return found | {("", name): value for name, value in overall.items()}


def _score_head(
    y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32], weights: Floats, bins: int
) -> dict[str, Floats]:
    confusions = metrics.count_confusions(y_true, y_prob, weights)
    return {
        "accuracy": metrics.accuracy(confusions),
        "balanced_accuracy": metrics.balanced_accuracy(confusions),
        "macro_f1": metrics.macro_f1(confusions),
        "loss": metrics.cross_entropy(y_true, y_prob, weights),
        "ece": metrics.calibration_error(y_true, y_prob, bins, weights),
    }


def _aggregate_heads(
    heads: Sequence[str], values_of: Mapping[tuple[str, str], Floats]
) -> dict[str, Floats]:
    """Computes means and sums over the heads, ignoring heads without labels in a sample."""
    found = {}
    for name, metric, is_mean in (
        ("mean_accuracy", "accuracy", True),
        ("loss", "loss", False),
        ("calibrated_loss", "calibrated_loss", False),
        ("mean_ece", "ece", True),
        ("mean_calibrated_ece", "calibrated_ece", True),
    ):
        values = np.stack([values_of[head, metric] for head in heads])
        total = np.nansum(values, axis=0)
        found[name] = total / (~np.isnan(values)).sum(axis=0) if is_mean else total
    return found


def score_classes(
    y_true: OneHot,
    y_prob: OneHot,
    classes: Mapping[str, Sequence[str]],
    params: EvaluationParams,
    seed: int,
) -> pd.DataFrame:
    """Scores each class of each head.

    Returns:
        One row per class: `head`, `class`, `rows`, and `recall`, `precision` and `f1` with
        intervals.
    """

    def compute(weights: Floats) -> dict[tuple[str, str, str], Floats]:
        found: dict[tuple[str, str, str], Floats] = {}
        for head, names in classes.items():
            confusions = metrics.count_confusions(y_true[head], y_prob[head], weights)
            for metric, formula in (
                ("recall", metrics.recalls),
                ("precision", metrics.precisions),
                ("f1", metrics.f1_scores),
            ):
                values = formula(confusions)
                found |= {(head, name, metric): values[..., i] for i, name in enumerate(names)}
        return found

    estimates = estimate(compute, len(next(iter(y_true.values()))), params, seed)
    keys = [(head, name) for head, names in classes.items() for name in names]
    columns = ("recall", "precision", "f1")
    table = _tabulate(
        {key: {name: estimates[*key, name] for name in columns} for key in keys}, columns
    )
    table.index = pd.MultiIndex.from_tuples(keys, names=["head", "class"])
    counts = [y_true[head].sum(axis=0).astype(int) for head in classes]
    table.insert(0, "rows", np.concatenate(counts))
    return table.reset_index()


@dataclass(frozen=True)
class _Slice:
    """One head, on the rows of one class of another head.

    Attributes:
        y_true: One-hot labels of the scored head, all rows.
        y_prob: Predicted probabilities of the scored head, all rows.
        inside: Positions of the rows of the class.
        outside: Positions of the rows with another class of the same head.
    """

    y_true: npt.NDArray[np.float32]
    y_prob: npt.NDArray[np.float32]
    inside: npt.NDArray[np.intp]
    outside: npt.NDArray[np.intp]

    def count_labels(self) -> tuple[int, int]:
        """Counts the rows inside and outside that have a label of the scored head."""
        inside, outside = (
            int(self.y_true[rows].any(axis=1).sum()) for rows in (self.inside, self.outside)
        )
        return inside, outside

    def score(self, weights: Floats, bins: int) -> dict[str, Floats]:
        """Computes the metrics inside, and the difference in accuracy to the rows outside."""
        inside, outside = self.inside, self.outside
        found = _score_head(self.y_true[inside], self.y_prob[inside], weights[..., inside], bins)
        elsewhere = metrics.count_confusions(
            self.y_true[outside], self.y_prob[outside], weights[..., outside]
        )
        return found | {"apart": found["accuracy"] - metrics.accuracy(elsewhere)}


def _find_slices(
    y_true: OneHot, y_prob: OneHot, classes: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str, str], _Slice]:
    """Returns slices by `(scored head, other head, class of the other head)`."""
    return {
        (head, other, name): _Slice(
            y_true[head],
            y_prob[head],
            np.flatnonzero(y_true[other][:, number]),
            np.flatnonzero(y_true[other].any(axis=1) & (y_true[other][:, number] == 0)),
        )
        for head in y_true
        for other, names in classes.items()
        for number, name in enumerate(names)
        if other != head
    }


def score_slices(
    y_true: OneHot,
    y_prob: OneHot,
    classes: Mapping[str, Sequence[str]],
    params: EvaluationParams,
    seed: int,
) -> pd.DataFrame:
    """Scores each head on the rows of each class of every other head.

    Returns:
        One row per slice: `head`, `by` (the other head), `class` (of the other head), `rows` with
        both labels, `too_small` (too few rows inside or outside the slice), `HEAD_METRICS` with
        intervals, and `apart`: accuracy minus the accuracy on the other rows, with its interval.
    """
    slices = _find_slices(y_true, y_prob, classes)

    def compute(weights: Floats) -> dict[tuple[str, str, str, str], Floats]:
        return {
            (*key, name): values
            for key, one in slices.items()
            for name, values in one.score(weights, params.calibration_bins).items()
        }

    estimates = estimate(compute, len(next(iter(y_true.values()))), params, seed)
    columns = (*HEAD_METRICS, "apart")
    table = _tabulate(
        {key: {name: estimates[*key, name] for name in columns} for key in slices}, columns
    )
    table.index = pd.MultiIndex.from_tuples(list(slices), names=["head", "by", "class"])
    counts = [one.count_labels() for one in slices.values()]
    table.insert(0, "rows", [inside for inside, _ in counts])
    # The difference is uncertain if either side has few rows.
    table.insert(1, "too_small", np.array([min(pair) for pair in counts]) < params.min_slice_rows)
    return table.reset_index()


def find_unlike_slices(slices: pd.DataFrame) -> pd.DataFrame:
    """Selects the slices, large enough, whose accuracy differs significantly from other rows.

    Returns:
        Rows of `score_slices` whose interval of `apart` excludes zero, in ascending order of
        `apart`.
    """
    is_significant = (slices["apart_low"] > 0) | (slices["apart_high"] < 0)
    found = slices[is_significant & ~slices["too_small"].astype(bool)]
    return found.sort_values("apart", kind="stable")


def estimate(
    compute: Callable[[Floats], Mapping[Key, Floats]],
    rows: int,
    params: EvaluationParams,
    seed: int,
) -> dict[Key, tuple[float, float, float]]:
    """Computes metrics and their bootstrap intervals.

    Each bootstrap sample draws the same rows for all metrics, because errors on one image are
    correlated. A sample without labels for a metric is ignored for that metric. A significant bias
    of the samples is subtracted: calibration errors, for example, increase when rows repeat.

    Args:
        compute: Returns metrics for weights of shape (..., rows).
        rows: Number of rows.
        params: Confidence level and number of bootstrap samples.
        seed: Random seed of the bootstrap.

    Returns:
        `{key: (value, low, high)}`.
    """
    random = np.random.default_rng(seed)
    values = compute(np.ones(rows))
    samples: dict[Key, list[Floats]] = {key: [] for key in values}
    size = max(1, _CELLS_AT_ONCE // rows)
    for begin in range(0, params.bootstrap_samples, size):
        count = min(size, params.bootstrap_samples - begin)
        weights = random.multinomial(rows, np.full(rows, 1 / rows), count).astype(np.float64)
        for key, sampled in compute(weights).items():
            samples[key].append(sampled)
    tails = [(1 - params.confidence) / 2, (1 + params.confidence) / 2]
    return {
        key: (float(values[key]), *_interval(float(values[key]), np.concatenate(sampled), tails))
        for key, sampled in samples.items()
    }


def _interval(value: float, samples: Floats, tails: Sequence[float]) -> tuple[float, float]:
    known = samples[~np.isnan(samples)]
    if not len(known):
        return np.nan, np.nan
    bias = known.mean() - value
    standard_error = known.std() / np.sqrt(len(known))
    corrected = known - bias if abs(bias) > _SIGNIFICANT_BIAS * standard_error else known
    low, high = np.clip(
        np.quantile(corrected, tails), min(known.min(), value), max(known.max(), value)
    )
    return float(low), float(high)


def _tabulate(
    estimates: Mapping[Key, Mapping[str, tuple[float, float, float]]], names: Sequence[str]
) -> pd.DataFrame:
    """Builds a table with the columns `NAME`, `NAME_low` and `NAME_high` for each metric."""
    return pd.DataFrame(
        [[number for name in names for number in row[name]] for row in estimates.values()],
        index=pd.Index(list(estimates), tupleize_cols=False),
        columns=[f"{name}{end}" for name in names for end in ("", "_low", "_high")],
        dtype=float,
    )
