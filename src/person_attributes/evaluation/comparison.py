"""Compares two networks on the same rows and tests whether they differ significantly."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import EvaluationParams
from person_attributes.errors import OtherRowsError
from person_attributes.evaluation import metrics
from person_attributes.evaluation.bootstrap import bootstrap
from person_attributes.evaluation.metrics import Estimate, Floats
from person_attributes.evaluation.predictions import Predictions
from person_attributes.evaluation.proportions import correct_by_holm


@dataclass(frozen=True)
class Comparison:
    """Differences between two networks: metrics of the second minus metrics of the first.

    Attributes:
        heads: One row per head: `rows` with a label, accuracies `first` and `second`, `gain` with
            `gain_low` and `gain_high`, `only_first` and `only_second` (rows that only one network
            classifies correctly), and `p_value` of McNemar's test, corrected for the number of
            heads.
        mean_accuracy: Gain in mean accuracy over the heads.
        loss: Difference in the sum of cross-entropies before temperature scaling; the second is
            better below zero.
        rows: Number of compared rows.
    """

    heads: pd.DataFrame
    mean_accuracy: Estimate
    loss: Estimate
    rows: int

    @property
    def is_significant(self) -> bool:
        """Whether the interval of the gain in mean accuracy excludes zero."""
        _, low, high = self.mean_accuracy
        return low > 0 or high < 0


def compare_predictions(
    first: Predictions, second: Predictions, params: EvaluationParams, seed: int
) -> Comparison:
    """Compares two networks on the same rows.

    Intervals of the paired differences are bootstrapped over rows. They show the variation between
    samples of rows, not the variation between training runs with other seeds.

    Args:
        first: Predictions of the baseline network.
        second: Predictions of the other network.
        params: Confidence level and number of bootstrap samples.
        seed: Random seed of the bootstrap.

    Raises:
        OtherRowsError: If rows, labels or heads differ. Score both on the same split and data.
    """
    refuse_other_rows(first, second)
    gains = bootstrap(partial(_compute_gains, first, second), len(first.rows), params, seed)
    table = pd.DataFrame(
        [
            _compare_head(
                first.y_true[head], first.y_prob[head], second.y_prob[head], gains[head, "accuracy"]
            )
            for head in first.y_true
        ],
        index=pd.Index(list(first.y_true), name="head"),
    )
    table["p_value"] = correct_by_holm(table["p_value"].to_numpy())
    return Comparison(table, gains["", "accuracy"], gains["", "loss"], len(first.rows))


def _compute_gains(
    first: Predictions, second: Predictions, weights: Floats
) -> dict[tuple[str, str], Floats]:
    """Computes differences by `(head, metric)`; differences over all heads have the head `""`."""
    gains: dict[tuple[str, str], Floats] = {}
    for head, y_true in first.y_true.items():
        before, after = (
            {
                "accuracy": metrics.accuracy(y_true, y_prob, weights),
                "loss": metrics.cross_entropy(y_true, y_prob, weights),
            }
            for y_prob in (first.y_prob[head], second.y_prob[head])
        )
        gains |= {(head, name): after[name] - before[name] for name in after}
    accuracies = np.stack([gains[head, "accuracy"] for head in first.y_true], axis=-1)
    gains["", "accuracy"] = metrics.mean_of_known(accuracies)
    gains["", "loss"] = np.nansum([gains[head, "loss"] for head in first.y_true], axis=0)
    return gains


def refuse_other_rows(first: Predictions, second: Predictions) -> None:
    """Raises an error unless two networks were scored on the same heads, rows and labels.

    Raises:
        OtherRowsError: If they differ. Score both on the same split and data.
    """
    if list(first.y_true) != list(second.y_true):
        raise OtherRowsError(
            f"the heads differ: {', '.join(first.y_true)} and {', '.join(second.y_true)}. "
            "Compare two networks with the same heads."
        )
    common = np.intersect1d(first.rows, second.rows)
    if not np.array_equal(np.sort(first.rows), np.sort(second.rows)):
        raise OtherRowsError(
            f"the rows differ: {len(first.rows)} and {len(second.rows)} rows, {len(common)} in "
            "common. Metrics on different rows are not comparable, and one network may have been "
            "trained on rows of the other. Evaluate both on the same data and split."
        )
    for head in first.y_true:
        if not np.array_equal(first.rows, second.rows) or not np.array_equal(
            first.y_true[head], second.y_true[head]
        ):
            raise OtherRowsError(
                f"the labels of {head} differ on the same rows: the data or the order of the rows "
                "is not the same. Evaluate both on the same data and split."
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
    discordant = only_first + only_second
    return {
        "rows": int(labelled.sum()),
        "first": was_right.mean(),
        "second": is_right.mean(),
        **dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)),
        "only_first": only_first,
        "only_second": only_second,
        # McNemar 1947, exact.
        "p_value": float(binomtest(only_first, discordant).pvalue) if discordant else 1.0,
    }


def format_comparison(
    comparison: Comparison,
    names: tuple[str, str],
    differing: Mapping[str, tuple[str, str]],
    confidence: float,
) -> str:
    """Formats a comparison for a terminal: a table, the differing parameters and the verdict.

    Args:
        comparison: The comparison to format.
        names: Names of the two networks.
        differing: Both values of each parameter that differs, by its dotted name.
        confidence: Confidence level of the intervals.
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
    lines += [
        "only 1, only 2: rows that only one network classifies correctly",
        f"p: McNemar's test, corrected for the number of heads; *: p < {1 - confidence:g}",
    ]
    lines += ["", "parameters that differ" if differing else "no parameter differs"]
    lines += [f"  {key}: {one} -> {other}" for key, (one, other) in differing.items()]
    return "\n".join([*lines, "", word_verdict(comparison)])


def word_verdict(comparison: Comparison) -> str:
    """Returns one sentence that reports whether the difference is significant."""
    gain, low, high = comparison.mean_accuracy
    loss, loss_low, loss_high = comparison.loss
    verdict = (
        f"The second is significantly {'better' if gain > 0 else 'worse'}"
        if comparison.is_significant
        else "No significant difference"
    )
    return (
        f"{verdict}: mean accuracy {gain:+.4f} ({low:+.4f} to {high:+.4f}), uncalibrated loss "
        f"{loss:+.3f} ({loss_low:+.3f} to {loss_high:+.3f}) on the same {comparison.rows} "
        "validation rows."
    )
