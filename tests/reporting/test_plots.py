"""Plots of classes with long names."""

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
