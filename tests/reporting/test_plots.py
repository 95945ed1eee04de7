"""Plots of classes with long names, and of many classes."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

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
    counts = {"few": np.full((3, 3), 77.0), "many": np.full((150, 150), 88.0)}
    classes = {head: [f"{head} {n}" for n in range(len(matrix))] for head, matrix in counts.items()}
    svg = draw_confusions(counts, classes, "#2a6f97")
    assert svg.count("<!-- 77 -->") == 9
    assert svg.count("<!-- few 2 -->") == 2
    assert "<!-- 88 -->" not in svg
    assert 40 < svg.count("<!-- many ") <= 80, "names of some classes on both axes"


@pytest.mark.parametrize("sizes", [[2], [3, 12, 25], [25]])
def test_confusions_of_all_heads_are_one_svg(sizes: list[int]) -> None:
    counts = {f"head{size}": np.eye(size) for size in sizes}
    classes = {head: list(map(str, range(len(matrix)))) for head, matrix in counts.items()}
    svg = draw_confusions(counts, classes, "#2a6f97")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert all(svg.count(f"<!-- {head} -->") == 1 for head in counts)
