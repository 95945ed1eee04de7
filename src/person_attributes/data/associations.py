"""Co-occurrence of labels, and agreement of labels between near-duplicates."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.labels import LabelMap

_MAX_LIFT = 0.5
"""A pair is unusual if its count is below this share of the expected count."""

_MAX_RESIDUAL = -2.0
"""A pair is unusual if its Pearson residual is lower; about 2 % of residuals are, by chance."""

OneHot = Mapping[str, npt.NDArray[np.float32]]
"""`{head: (n, classes)}` of 0 and 1."""


@dataclass(frozen=True)
class UnusualPair:
    """Two classes that occur together far less often than expected.

    Attributes:
        first: Head and class.
        second: Head and class.
        count: Number of rows with both.
        expected: Expected number of rows with both, if the heads were independent.
        positions: Positions of the records with both.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    count: int
    expected: float
    positions: npt.NDArray[np.intp]


def count_pairs(
    targets: OneHot,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Counts the rows with each pair of classes of different heads.

    Rows that lack one of the two labels are ignored.

    Args:
        targets: One-hot labels.

    Returns:
        The counts, and the expected counts if heads were independent. Both have shape (classes,
        classes), over all classes of all heads, and NaN for two classes of the same head.
    """
    one_hot = np.concatenate(list(targets.values()), axis=1).astype(np.float64)
    is_labelled = np.concatenate(
        [np.repeat(y.any(axis=1, keepdims=True), y.shape[1], axis=1) for y in targets.values()],
        axis=1,
    ).astype(np.float64)
    counts = one_hot.T @ one_hot
    both = np.maximum(is_labelled.T @ is_labelled, 1)
    expected = (one_hot.T @ is_labelled) * (is_labelled.T @ one_hot) / both
    start = 0
    for y in targets.values():
        own = slice(start, start + y.shape[1])
        counts[own, own] = expected[own, own] = np.nan
        start += y.shape[1]
    return counts, expected


def find_unusual_pairs(targets: OneHot, label_map: LabelMap, count: int) -> list[UnusualPair]:
    """Finds pairs of classes that occur together far less often than expected.

    Label errors are frequent among their rows.

    Args:
        targets: One-hot labels.
        label_map: The heads and classes of the targets.
        count: Maximum number of pairs.

    Returns:
        Pairs with a count above 0 and below half of the expected count, and with a Pearson
        residual, (count - expected) / sqrt(expected), below -2. The pair with the lowest ratio of
        count to expected count comes first.
    """
    names = [(head, name) for head in label_map.heads for name in label_map.classes[head]]
    one_hot = np.concatenate([targets[head] for head in label_map.heads], axis=1)
    counts, expected = count_pairs({head: targets[head] for head in label_map.heads})
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = counts / expected
        residuals = (counts - expected) / np.sqrt(expected)
    is_unusual = (counts > 0) & (lift < _MAX_LIFT) & (residuals < _MAX_RESIDUAL)
    lift[~is_unusual | np.tri(len(lift), dtype=bool)] = np.inf
    order = np.argsort(lift, axis=None, kind="stable")[: min(count, np.isfinite(lift).sum())]
    pairs = []
    for first, second in zip(*np.unravel_index(order, lift.shape), strict=True):
        both = one_hot[:, first] * one_hot[:, second] > 0
        pairs.append(
            UnusualPair(
                names[first],
                names[second],
                int(counts[first, second]),
                float(expected[first, second]),
                np.flatnonzero(both),
            )
        )
    return pairs


def compare_labels(records: pd.DataFrame, pairs: pd.DataFrame, heads: list[str]) -> pd.DataFrame:
    """Compares the labels of near-duplicates, as a measure of label noise.

    Args:
        records: Checked records.
        pairs: Row numbers `first` and `second`.
        heads: The label columns.

    Returns:
        A row for each head: `pairs` (pairs in which both images have a label), `agree` (pairs with
        equal labels) and `share` (`agree` / `pairs`).
    """
    first = records.loc[pairs["first"], heads].reset_index(drop=True)
    second = records.loc[pairs["second"], heads].reset_index(drop=True)
    labelled = (first != "") & (second != "")
    agree = (first.eq(second) & labelled).sum()
    table = pd.DataFrame({"pairs": labelled.sum(), "agree": agree})
    table["share"] = table["agree"] / table["pairs"].clip(lower=1)
    table.index.name = "head"
    return table
