"""Two networks on the same rows: what differs, and whether it is more than chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import EvaluationParams
from person_attributes.errors import OtherRowsError
from person_attributes.evaluation import metrics
from person_attributes.evaluation.metrics import Floats
from person_attributes.evaluation.predictions import Predictions
from person_attributes.evaluation.scores import estimate

Estimate = tuple[float, float, float]
"""A figure, and the low and the high end of its interval."""


@dataclass(frozen=True)
class Comparison:
    """What the second network does better or worse than the first.

    Attributes:
        heads: One row a head: `rows` with a label, accuracies `first` and `second`, `gain` with
            `gain_low` and `gain_high`, `only_first` and `only_second` (rows that one alone has
            right), and `p_value` of McNemar's test, corrected for the number of heads.
        mean_accuracy: The gain over heads.
        loss: The gain in the sum of cross-entropies; below zero the second is better.
        rows: How many were compared.
    """

    heads: pd.DataFrame
    mean_accuracy: Estimate
    loss: Estimate
    rows: int

    @property
    def is_more_than_chance(self) -> bool:
        """Whether the interval of the gain in mean accuracy leaves out zero."""
        _, low, high = self.mean_accuracy
        return low > 0 or high < 0


def compare_predictions(
    first: Predictions, second: Predictions, params: EvaluationParams, seed: int
) -> Comparison:
    """Compares two networks row by row.

    Intervals are of paired differences, bootstrapped over rows. They tell whether other rows would
    turn the verdict, not whether the same recipe with another seed would.

    Args:
        first: Of the one to beat.
        second: Of the other.
        params: Confidence and number of bootstrap samples.
        seed: Of the bootstrap.

    Raises:
        OtherRowsError: If rows, labels or heads differ: score both on the same split and data.
    """
    refuse_other_rows(first, second)

    def compute(weights: Floats) -> dict[tuple[str, str], Floats]:
        gains: dict[tuple[str, str], Floats] = {}
        for head, y_true in first.y_true.items():
            before, after = first.y_prob[head], second.y_prob[head]
            gains[head, "accuracy"] = metrics.accuracy(
                metrics.count_confusions(y_true, after, weights)
            ) - metrics.accuracy(metrics.count_confusions(y_true, before, weights))
            gains[head, "loss"] = metrics.cross_entropy(
                y_true, after, weights
            ) - metrics.cross_entropy(y_true, before, weights)
        accuracies = np.stack([gains[head, "accuracy"] for head in first.y_true])
        known = ~np.isnan(accuracies)
        gains["", "accuracy"] = np.nansum(accuracies, axis=0) / np.maximum(known.sum(axis=0), 1)
        gains["", "loss"] = np.nansum([gains[head, "loss"] for head in first.y_true], axis=0)
        return gains

    gains = estimate(compute, len(first.rows), params, seed)
    table = pd.DataFrame(
        [
            _compare_head(
                first.y_true[head], first.y_prob[head], second.y_prob[head], gains[head, "accuracy"]
            )
            for head in first.y_true
        ],
        index=pd.Index(list(first.y_true), name="head"),
    )
    table["p_value"] = _correct(table["p_value"].to_numpy())
    return Comparison(table, gains["", "accuracy"], gains["", "loss"], len(first.rows))


def refuse_other_rows(first: Predictions, second: Predictions) -> None:
    """Holds rows, heads and labels of two networks against each other.

    Raises:
        OtherRowsError: If they differ: score both on the same split and data.
    """
    if list(first.y_true) != list(second.y_true):
        raise OtherRowsError(
            f"the heads differ: {', '.join(first.y_true)} against {', '.join(second.y_true)}. "
            "Compare two networks of the same heads."
        )
    common = np.intersect1d(first.rows, second.rows)
    if not np.array_equal(np.sort(first.rows), np.sort(second.rows)):
        raise OtherRowsError(
            f"the rows differ: {len(first.rows)} against {len(second.rows)}, "
            f"{len(common)} of them the same. Figures on other rows cannot be compared, and rows "
            "of one may have trained the other: give both the same data and the same split."
        )
    for head in first.y_true:
        if not np.array_equal(first.rows, second.rows) or not np.array_equal(
            first.y_true[head], second.y_true[head]
        ):
            raise OtherRowsError(
                f"the labels of {head} differ on the same rows: the two were scored on other data, "
                "or in another order. Give both the same data and the same split."
            )


def _compare_head(
    y_true: npt.NDArray[np.float32],
    before: npt.NDArray[np.float32],
    after: npt.NDArray[np.float32],
    gain: Estimate,
) -> dict[str, Any]:
    from scipy.stats import binomtest

    labelled = y_true.any(axis=1)
    truth = y_true[labelled].argmax(axis=1)
    was_right = before[labelled].argmax(axis=1) == truth
    is_right = after[labelled].argmax(axis=1) == truth
    only_first, only_second = int((was_right & ~is_right).sum()), int((is_right & ~was_right).sum())
    apart = only_first + only_second
    return {
        "rows": int(labelled.sum()),
        "first": was_right.mean(),
        "second": is_right.mean(),
        **dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)),
        "only_first": only_first,
        "only_second": only_second,
        # McNemar 1947, exact.
        "p_value": float(binomtest(only_first, apart).pvalue) if apart else 1.0,
    }


def _correct(p_values: Floats) -> Floats:
    """Corrects for looking at several heads at once (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    corrected = np.empty_like(scaled)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected


def format_comparison(
    comparison: Comparison,
    names: tuple[str, str],
    differing: Mapping[str, tuple[str, str]],
    confidence: float,
) -> str:
    """Words a comparison for a terminal: a table, the parameters that differ, one sentence.

    Args:
        comparison: What was found.
        names: Of the two.
        differing: Values of the parameters that are not the same, by their dotted names.
        confidence: Of the intervals.
    """
    first, second = names
    lines = [f"first   {first}", f"second  {second}", ""]
    lines += [
        "head               first  second    gain             interval  only 1  only 2       p"
    ]
    for head, row in comparison.heads.iterrows():
        interval = f"{row['gain_low']:+.3f} to {row['gain_high']:+.3f}"
        mark = " *" if row["p_value"] < 1 - confidence else ""
        lines.append(
            f"{head!s:<16}{row['first']:>8.3f}{row['second']:>8.3f}{row['gain']:>+8.3f}"
            f"{interval:>21}{row['only_first']:>8.0f}{row['only_second']:>8.0f}"
            f"{row['p_value']:>8.3f}{mark}"
        )
    lines.append("p: McNemar's test, corrected for the number of heads; * more than chance.")
    lines += ["", "parameters that differ" if differing else "no parameter differs"]
    lines += [f"  {key}: {one} -> {other}" for key, (one, other) in differing.items()]
    return "\n".join([*lines, "", word_verdict(comparison)])


def word_verdict(comparison: Comparison) -> str:
    """Says in one sentence whether the difference is more than chance."""
    gain, low, high = comparison.mean_accuracy
    loss, loss_low, loss_high = comparison.loss
    verdict = (
        f"The second is {'better' if gain > 0 else 'worse'} by more than chance"
        if comparison.is_more_than_chance
        else "No more than chance"
    )
    return (
        f"{verdict}: mean accuracy {gain:+.4f} ({low:+.4f} to {high:+.4f}), loss {loss:+.3f} "
        f"({loss_low:+.3f} to {loss_high:+.3f}) on the same {comparison.rows} validation rows."
    )
