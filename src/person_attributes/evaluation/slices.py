"""Slices: one head, scored on the rows of one class of another head."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import EvaluationParams
from person_attributes.evaluation.bootstrap import bootstrap
from person_attributes.evaluation.metrics import Estimate, Floats, OneHot
from person_attributes.evaluation.proportions import (
    compare_proportions,
    correct_by_benjamini_hochberg,
    estimate_proportion,
    subtract_proportions,
)
from person_attributes.evaluation.scores import HEAD_METRICS, estimate_head, score_head, tabulate

_Name = tuple[str, str, str]
"""The scored head, the other head, and a class of the other head."""


@dataclass(frozen=True)
class _Slice:
    """One head, on the rows of one class of another head.

    Attributes:
        y_true: One-hot labels of the scored head, all rows.
        y_prob: Predicted probabilities of the scored head, all rows.
        inside: Positions of the rows of the class that have a label of the scored head.
        outside: Positions of such rows of the other classes.
    """

    y_true: npt.NDArray[np.float32]
    y_prob: npt.NDArray[np.float32]
    inside: npt.NDArray[np.intp]
    outside: npt.NDArray[np.intp]

    @property
    def rows(self) -> tuple[int, int]:
        """Number of rows inside and outside."""
        return len(self.inside), len(self.outside)

    @property
    def right(self) -> tuple[int, int]:
        """Number of rows inside and outside whose predicted class is correct."""
        is_right = self.y_true.argmax(axis=1) == self.y_prob.argmax(axis=1)
        return int(is_right[self.inside].sum()), int(is_right[self.outside].sum())

    def score(self, weights: Floats) -> dict[str, Floats]:
        """Computes the metrics inside whose intervals are bootstrapped."""
        inside = self.inside
        return score_head(self.y_true[inside], self.y_prob[inside], weights[..., inside])

    def estimate(self, params: EvaluationParams) -> dict[str, Estimate]:
        """Estimates the metrics inside whose intervals have a formula, and `apart`."""
        found = estimate_head(self.y_true[self.inside], self.y_prob[self.inside], params)
        elsewhere = estimate_proportion(self.right[1], self.rows[1], params.confidence)
        return found | {"apart": subtract_proportions(found["accuracy"], elsewhere)}


def _find_slices(
    y_true: OneHot, y_prob: OneHot, classes: Mapping[str, Sequence[str]]
) -> dict[_Name, _Slice]:
    slices = {}
    for head, truth in y_true.items():
        for other, names in classes.items():
            labelled = truth.any(axis=1) & y_true[other].any(axis=1)
            for number, name in enumerate(names if other != head else ()):
                is_inside = y_true[other][:, number] > 0
                slices[head, other, name] = _Slice(
                    truth,
                    y_prob[head],
                    inside=np.flatnonzero(labelled & is_inside),
                    outside=np.flatnonzero(labelled & ~is_inside),
                )
    return slices


def score_slices(
    y_true: OneHot,
    y_prob: OneHot,
    classes: Mapping[str, Sequence[str]],
    params: EvaluationParams,
    seed: int,
) -> pd.DataFrame:
    """Scores each head on the rows of each class of every other head.

    Args:
        y_true: One-hot labels, `{head: (n, classes)}`.
        y_prob: Probabilities of the same shapes.
        classes: The class names of each head.
        params: The bootstrap, the level of intervals and the smallest slice.
        seed: Seed of the bootstrap.

    Returns:
        One row per slice: `head`, `by` (the other head), `class` (of the other head), `rows` with
        both labels, `too_small` (too few rows inside or outside the slice), `HEAD_METRICS` with
        intervals, `apart`: accuracy minus the accuracy on the other rows, with its interval, and
        `p_value` of Fisher's exact test that both accuracies are equal, corrected for the number
        of slices that are large enough; NaN for the others.
    """
    slices = _find_slices(y_true, y_prob, classes)

    def compute(weights: Floats) -> dict[tuple[_Name, str], Floats]:
        return {
            (key, name): values
            for key, one in slices.items()
            for name, values in one.score(weights).items()
        }

    bootstrapped = bootstrap(compute, len(next(iter(y_true.values()))), params, seed)
    estimates = {key: one.estimate(params) for key, one in slices.items()}
    for (key, name), value in bootstrapped.items():
        estimates[key][name] = value
    table = tabulate(estimates, (*HEAD_METRICS, "apart"))
    table.index = pd.MultiIndex.from_tuples(list(slices), names=["head", "by", "class"])
    table.insert(0, "rows", [one.rows[0] for one in slices.values()])
    # The difference is uncertain if either side has few rows.
    smallest = np.array([min(one.rows) for one in slices.values()])
    table.insert(1, "too_small", smallest < params.min_slice_rows)
    table["p_value"] = _compare(slices.values(), params.min_slice_rows)
    return table.reset_index()


def read_slices(path: Path) -> pd.DataFrame:
    """Reads the CSV file of `score_slices`; the name of a class may be a number or `NA`."""
    text = dict.fromkeys(("head", "by", "class"), str)
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])


def _compare(slices: Iterable[_Slice], min_rows: int) -> Floats:
    """Tests the accuracies inside and outside of each slice; NaN if a side has too few rows."""
    p_values = np.array(
        [
            compare_proportions(one.right, one.rows) if min(one.rows) >= min_rows else np.nan
            for one in slices
        ]
    )
    is_tested = ~np.isnan(p_values)
    p_values[is_tested] = correct_by_benjamini_hochberg(p_values[is_tested])
    return p_values


def find_unlike_slices(slices: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Selects the slices whose accuracy differs significantly from the one on the other rows.

    On average, at most a share of `1 - confidence` of the selected slices does not differ
    (Benjamini and Hochberg 1995).

    Returns:
        Rows of `score_slices` in ascending order of `apart`.
    """
    found = slices[slices["p_value"] < 1 - confidence]
    return found.sort_values("apart", kind="stable")
