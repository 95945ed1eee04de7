"""Every figure with its interval: of heads, of classes, of slices, over heads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import EvaluationParams
from person_attributes.evaluation import metrics
from person_attributes.evaluation.metrics import Floats, OneHot

HEAD_FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "loss", "ece")
"""What is told of a head with its interval; `ece` is the expected calibration error."""

_CALIBRATED_FIGURES = ("calibrated_loss", "calibrated_ece")

_OVERALL_FIGURES = (
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

_NOISES = 3.0
"""Standard errors from which a bias of the draws is no noise."""

_CELLS_AT_ONCE = 20_000_000
"""Draws times rows that are held in memory."""


@dataclass(frozen=True)
class Scores:
    """How good predictions are.

    Attributes:
        heads: One row a head: `rows` with a label; `HEAD_FIGURES`, `calibrated_loss` and
            `calibrated_ece`, each with `_low` and `_high`; `majority`, the accuracy of always
            saying the commonest training class; `prior_loss`, the cross-entropy of always saying
            the training class shares.
        overall: One row a figure over heads, with columns `value`, `low` and `high`. `loss` is the
            plain sum of the heads' cross-entropies.
        rows: How many were scored.
    """

    heads: pd.DataFrame
    overall: pd.DataFrame
    rows: int

    def __getitem__(self, figure: str) -> float:
        """Gives a figure over heads."""
        return float(self.overall["value"][figure])

    def to_metrics(self) -> dict[str, float]:
        """Names the figures as MLflow and `dvc metrics` show them."""
        named = {str(name): self[str(name)] for name in self.overall.index}
        for end in ("low", "high"):
            named[f"mean_accuracy_{end}"] = float(self.overall[end]["mean_accuracy"])
        named["mean_majority"] = float(self.heads["majority"].mean())
        named["prior_loss"] = float(self.heads["prior_loss"].sum())
        named["rows"] = self.rows
        for head, row in self.heads.iterrows():
            for name in (*HEAD_FIGURES, *_CALIBRATED_FIGURES, "majority"):
                named[f"{head}_{name}"] = float(row[name])
        return named


def score(
    y_true: OneHot,
    y_prob: OneHot,
    calibrated: OneHot,
    y_train: OneHot,
    params: EvaluationParams,
    seed: int,
) -> Scores:
    """Scores predictions of all heads on the same rows.

    Args:
        y_true: True classes of the scored rows, one-hot.
        y_prob: Predicted probabilities of the scored rows.
        calibrated: The same after temperature scaling.
        y_train: True classes of the training rows, for the floors.
        params: Confidence and number of bootstrap samples of the intervals, and calibration bins.
        seed: Of the bootstrap.

    Returns:
        The scores of each head and over heads.
    """
    rows = len(next(iter(y_true.values())))

    def compute(weights: Floats) -> dict[tuple[str, str], Floats]:
        found: dict[tuple[str, str], Floats] = {}
        confusions = {}
        for head, truth in y_true.items():
            confusions[head] = metrics.count_confusions(truth, y_prob[head], weights)
            figures = _score_head(truth, y_prob[head], weights, params.calibration_bins)
            after = _score_head(truth, calibrated[head], weights, params.calibration_bins)
            figures |= {f"calibrated_{name}": after[name] for name in ("loss", "ece")}
            found |= {(head, name): values for name, values in figures.items()}
        found |= {("", name): values for name, values in _sum_up(y_true, found).items()}
        found["", "mA"] = metrics.mean_attribute_accuracy(confusions)
        instance = metrics.instance_scores(y_true, y_prob, weights)
        return found | {("", name): values for name, values in instance.items()}

    estimates = estimate(compute, rows, params, seed)
    names = (*HEAD_FIGURES, *_CALIBRATED_FIGURES)
    heads = _tabulate(
        {head: {name: estimates[head, name] for name in names} for head in y_true}, names
    )
    heads.index.name = "head"
    heads.insert(0, "rows", [int(truth.any(axis=1).sum()) for truth in y_true.values()])
    for name, floor in (
        ("majority", metrics.majority_accuracy),
        ("prior_loss", metrics.prior_loss),
    ):
        heads[name] = [floor(truth, y_train[head]) for head, truth in y_true.items()]
    overall = pd.DataFrame(
        {name: estimates["", name] for name in _OVERALL_FIGURES}, ["value", "low", "high"]
    ).T
    overall.index.name = "figure"
    return Scores(heads, overall, rows)


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


def _sum_up(y_true: OneHot, figures: Mapping[tuple[str, str], Floats]) -> dict[str, Floats]:
    """Means and sums over the heads that a draw has labels of."""
    found = {}
    for name, figure, is_mean in (
        ("mean_accuracy", "accuracy", True),
        ("loss", "loss", False),
        ("calibrated_loss", "calibrated_loss", False),
        ("mean_ece", "ece", True),
        ("mean_calibrated_ece", "calibrated_ece", True),
    ):
        values = np.stack([figures[head, figure] for head in y_true])
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
        One row a class: `head`, `class`, `rows`, and `recall`, `precision` and `f1` with intervals.
    """

    def compute(weights: Floats) -> dict[tuple[str, str, str], Floats]:
        found: dict[tuple[str, str, str], Floats] = {}
        for head, names in classes.items():
            confusions = metrics.count_confusions(y_true[head], y_prob[head], weights)
            for figure, formula in (
                ("recall", metrics.recalls),
                ("precision", metrics.precisions),
                ("f1", metrics.f1_scores),
            ):
                values = formula(confusions)
                found |= {(head, name, figure): values[..., i] for i, name in enumerate(names)}
        return found

    estimates = estimate(compute, len(next(iter(y_true.values()))), params, seed)
    keys = [(head, name) for head, names in classes.items() for name in names]
    figures = ("recall", "precision", "f1")
    table = _tabulate(
        {key: {name: estimates[*key, name] for name in figures} for key in keys}, figures
    )
    table.index = pd.MultiIndex.from_tuples(keys, names=["head", "class"])
    counts = [y_true[head].sum(axis=0).astype(int) for head in classes]
    table.insert(0, "rows", np.concatenate(counts))
    return table.reset_index()


def score_slices(
    y_true: OneHot,
    y_prob: OneHot,
    classes: Mapping[str, Sequence[str]],
    params: EvaluationParams,
    seed: int,
) -> pd.DataFrame:
    """Scores each head on the rows of each class of every other head.

    Returns:
        One row a slice: `head`, `by` (the other head), `class` (of the other head), `rows` with
        both labels, `too_small` (here or elsewhere, to tell anything), `HEAD_FIGURES` with
        intervals, and `apart`: the accuracy less that on the other rows, with its interval.
    """
    slices = {
        (head, other, name): y_true[other][:, number]
        for head in y_true
        for other, names in classes.items()
        for number, name in enumerate(names)
        if other != head
    }

    def compute(weights: Floats) -> dict[tuple[str, str, str, str], Floats]:
        found: dict[tuple[str, str, str, str], Floats] = {}
        for key, members in slices.items():
            truth, answer = y_true[key[0]], y_prob[key[0]]
            is_in = np.flatnonzero(members)
            is_out = np.flatnonzero(y_true[key[1]].any(axis=1) & (members == 0))
            inside = _score_head(
                truth[is_in], answer[is_in], weights[..., is_in], params.calibration_bins
            )
            outside = metrics.accuracy(
                metrics.count_confusions(truth[is_out], answer[is_out], weights[..., is_out])
            )
            inside["apart"] = inside["accuracy"] - outside
            found |= {(*key, name): values for name, values in inside.items()}
        return found

    estimates = estimate(compute, len(next(iter(y_true.values()))), params, seed)
    figures = (*HEAD_FIGURES, "apart")
    table = _tabulate(
        {key: {name: estimates[*key, name] for name in figures} for key in slices}, figures
    )
    table.index = pd.MultiIndex.from_tuples(list(slices), names=["head", "by", "class"])
    inside, outside = (
        [
            int((y_true[head].any(axis=1) & y_true[other].any(axis=1) & (members == is_in)).sum())
            for (head, other, _), members in slices.items()
        ]
        for is_in in (1, 0)
    )
    table.insert(0, "rows", inside)
    # As little is known of how a head does elsewhere, where hardly anything is elsewhere.
    fewest = np.minimum(inside, outside)
    table.insert(1, "too_small", fewest < params.min_slice_rows)
    return table.reset_index()


def find_unlike_slices(slices: pd.DataFrame) -> pd.DataFrame:
    """Picks the slices, large enough to tell, on which a head is surely better or worse.

    Returns:
        Rows of `score_slices` whose interval of `apart` leaves out zero, the worst first.
    """
    is_sure = (slices["apart_low"] > 0) | (slices["apart_high"] < 0)
    return slices[is_sure & ~slices["too_small"].astype(bool)].sort_values("apart", kind="stable")


def estimate(
    compute: Callable[[Floats], Mapping[Key, Floats]],
    rows: int,
    params: EvaluationParams,
    seed: int,
) -> dict[Key, tuple[float, float, float]]:
    """Gives figures and their intervals, bootstrapped over rows.

    Rows are drawn for everything together, since mistakes on one image go together. A draw without
    any label of a figure says nothing of it. Draws are moved by their bias, where it is more than
    the noise of drawing, so that the interval lies around the figure: calibration errors grow when
    rows repeat.
    """
    random = np.random.default_rng(seed)
    values = compute(np.ones(rows))
    draws: dict[Key, list[Floats]] = {key: [] for key in values}
    size = max(1, _CELLS_AT_ONCE // rows)
    for begin in range(0, params.bootstrap_samples, size):
        count = min(size, params.bootstrap_samples - begin)
        weights = random.multinomial(rows, np.full(rows, 1 / rows), count).astype(np.float64)
        for key, drawn in compute(weights).items():
            draws[key].append(drawn)
    tails = [(1 - params.confidence) / 2, (1 + params.confidence) / 2]
    return {
        key: (float(values[key]), *_interval(float(values[key]), np.concatenate(drawn), tails))
        for key, drawn in draws.items()
    }


def _interval(value: float, drawn: Floats, tails: Sequence[float]) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return np.nan, np.nan
    bias = known.mean() - value
    noise = known.std() / np.sqrt(len(known))
    moved = known - bias if abs(bias) > _NOISES * noise else known
    low, high = np.clip(np.quantile(moved, tails), min(known.min(), value), max(known.max(), value))
    return float(low), float(high)


def _tabulate(
    estimates: Mapping[Key, Mapping[str, tuple[float, float, float]]], figures: Sequence[str]
) -> pd.DataFrame:
    """Puts each figure beside its interval: columns `name`, `name_low`, `name_high`."""
    return pd.DataFrame(
        [
            [number for name in figures for number in numbers[name]]
            for numbers in estimates.values()
        ],
        index=pd.Index(list(estimates), tupleize_cols=False),
        columns=[f"{name}{end}" for name in figures for end in ("", "_low", "_high")],
        dtype=float,
    )
