"""How labels go together, and where they contradict themselves."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.labels import LabelMap

_SELDOM = 0.5
"""As often as by chance; what is less than that is seldom."""

_LEAST_RESIDUAL = -2.0
"""About the 2 % that chance alone would bring."""

OneHot = Mapping[str, npt.NDArray[np.float32]]
"""`{head: (n, classes)}` of zeros and ones."""


@dataclass(frozen=True)
class UnusualPair:
    """Two classes that go together far less often than chance would have it.

    Attributes:
        first: Head and class.
        second: Head and class.
        count: Rows with both.
        expected: Rows with both, if the heads had nothing to do with each other.
        positions: The records with both.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    count: int
    expected: float
    positions: npt.NDArray[np.intp]


def count_pairs(
    targets: OneHot,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Counts the rows that have each two classes of different heads, among those with both labels.

    Args:
        targets: One-hot labels.

    Returns:
        The counts and what chance would give, (classes, classes) over all heads end to end; not a
        number within a head.
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
    """Finds the classes that are seldom together, but are: label errors gather there.

    Args:
        targets: One-hot labels.
        label_map: Names their columns.
        count: How many pairs to give.

    Returns:
        The pairs with the smallest count for what chance would give, of those that have less than
        half of it and are rarer than chance explains: whose Pearson residual, (count - expected) /
        sqrt(expected), is below -2.
    """
    names = [(head, name) for head in label_map.heads for name in label_map.classes[head]]
    one_hot = np.concatenate([targets[head] for head in label_map.heads], axis=1)
    counts, expected = count_pairs({head: targets[head] for head in label_map.heads})
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = counts / expected
        residuals = (counts - expected) / np.sqrt(expected)
    is_unusual = (counts > 0) & (lift < _SELDOM) & (residuals < _LEAST_RESIDUAL)
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
    """Compares the labels of near-duplicates: where people disagree on what is nearly one picture.

    Args:
        records: Checked records.
        pairs: Row numbers `first` and `second`.
        heads: The label columns.

    Returns:
        A row for each head: `pairs` with both labels, `agree`, and `share`, which tells how noisy
        the labels are.
    """
    first = records.loc[pairs["first"], heads].reset_index(drop=True)
    second = records.loc[pairs["second"], heads].reset_index(drop=True)
    labelled = (first != "") & (second != "")
    agree = (first.eq(second) & labelled).sum()
    table = pd.DataFrame({"pairs": labelled.sum(), "agree": agree})
    table["share"] = table["agree"] / table["pairs"].clip(lower=1)
    table.index.name = "head"
    return table
