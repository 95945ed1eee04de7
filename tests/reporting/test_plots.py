"""Plots of classes with long names, and of many classes."""

import numpy as np
import pandas as pd

from person_attributes.reporting.data_plots import draw_associations, draw_part_shares
from person_attributes.reporting.plots import draw_class_recalls, draw_confusions

_LONG = ["a dress that reaches the floor: red", "a dress that reaches the floor: blue", "x" * 300]


def test_classes_whose_shortened_names_are_equal_have_a_bar_each() -> None:
    columns = ["recall", "recall_low", "recall_high", "precision"]
    classes = pd.DataFrame({"head": "bag", "class": _LONG, "rows": 5}).assign(
        **dict.fromkeys(columns, 0.5)
    )
    assert draw_class_recalls(classes, "#2a6f97").count("<!-- a dress that… (5) -->") == 2


def test_plots_have_space_for_long_names() -> None:
    shares = {"train": {"bag": dict.fromkeys(_LONG, 1 / 3)}}
    assert "<!-- a dress that reaches th… -->" in draw_part_shares(shares, "#2a6f97")
    counts = np.ones((3, 3))
    names = [("bag", name) for name in _LONG]
    assert "<!-- bag: a dress that reaches the floor: blue -->" in draw_associations(
        counts, counts, names
    )
    assert "<!-- a dress that… -->" in draw_confusions({"bag": counts}, {"bag": _LONG}, "#2a6f97")


def test_confusions_of_many_classes_have_no_counts_and_no_overlapping_names() -> None:
    matrices = {head: np.full((size, size), 77.0) for head, size in (("few", 3), ("many", 150))}
    classes = {head: [f"c{n}" for n in range(len(matrix))] for head, matrix in matrices.items()}
    few, many = draw_confusions(matrices, classes, "#2a6f97").split("\n<svg")
    assert few.count("<!-- 77 -->") == 9
    assert few.count("<!-- c2 -->") == 2
    assert "<!-- 77 -->" not in many
    assert 40 < many.count("<!-- c") <= 80, "names of some classes on both axes"


def test_matrices_with_few_classes_share_a_row() -> None:
    sizes = {"a": 2, "b": 16, "c": 3}
    matrices = {head: np.eye(size) for head, size in sizes.items()}
    classes = {head: list(map(str, range(size))) for head, size in sizes.items()}
    few, more = draw_confusions(matrices, classes, "#2a6f97").split("\n<svg")
    assert [f"<!-- {head} -->" in few for head in sizes] == [True, False, True]
    assert "<!-- b -->" in more
