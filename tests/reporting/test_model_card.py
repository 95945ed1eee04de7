from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from person_attributes.config import Params
from person_attributes.reporting.model_card import Facts, render_card, render_card_page

FACTS = Facts(
    name="person-attributes",
    backbone="densenet",
    networks=1,
    starting_weights="",
    image_size=80,
    phases=5,
    weights=893211,
    source="people.zip",
    records=1400,
    records_digest="abc",
    parts={"train": 1191, "validation": 209},
    split_digest="def",
    confidence=0.95,
)
METRICS = {"rows": 209, "mean_accuracy": 0.9, "loss": 2.5, "calibrated_loss": 2.4}
METRICS |= {"mean_accuracy_low": 0.88, "mean_accuracy_high": 0.92}


@pytest.fixture
def heads() -> pd.DataFrame:
    table = pd.DataFrame(
        {"rows": 209, "accuracy": [0.9, 0.6], "accuracy_low": [0.85, 0.5]}, ["gender", "mood"]
    )
    table["accuracy_high"], table["majority"] = 0.95, 0.55
    for name in ("balanced_accuracy", "macro_f1", "loss", "ece"):
        table[name] = 0.5
    table["calibrated_loss"], table["calibrated_ece"], table["ece_if_calibrated"] = 0.4, 0.03, 0.02
    table["calibrated_ece_low"], table["calibrated_ece_high"] = 0.0, 0.07
    table.index.name = "head"
    return table


@pytest.fixture
def slices() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "head": "gender",
            "by": "bag",
            "class": ["a|b", "<b>big</b>", "tiny"],
            "rows": [50, 60, 3],
            "too_small": [False, False, True],
            "accuracy": [0.5, 0.97, 0.0],
            "apart": [-0.3, 0.2, -0.9],
            "p_value": [0.001, 0.04, np.nan],
        }
    )
    table["apart_low"], table["apart_high"] = table["apart"] - 0.1, table["apart"] + 0.1
    return table


def test_a_card_lists_metrics_limits_and_weaknesses(
    heads: pd.DataFrame, slices: pd.DataFrame, params: Params
) -> None:
    card = render_card(FACTS, params.card, METRICS, heads, slices)
    assert f"| licence of the data | {params.card.licence} |" in card
    assert "Art. 5(1)(f)" in card
    assert "| gender | 209 | 0.900 | 0.850 to 0.950 |" in card
    assert "| 0.400 | 0.030 (0.000 to 0.070) | 0.020 | 0.500 | 0.500 |" in card
    assert "calibrated loss (sum over heads) **2.400**, uncalibrated 2.500" in card
    assert "Not significantly better than the majority-class baseline: **mood**" in card
    assert r"| gender | bag is a\|b | 50 | 0.500 | -0.300 (-0.400 to -0.200) |" in card
    assert "tiny" not in card, "too few rows"
    assert "big" not in card, "a strength"
    assert "1,191 train, 209 validation; digest `def`" in card


def test_the_card_of_an_ensemble_counts_its_networks(
    heads: pd.DataFrame, slices: pd.DataFrame, params: Params
) -> None:
    one, several = (
        render_card(replace(FACTS, networks=networks), params.card, METRICS, heads, slices)
        for networks in (1, 3)
    )
    assert "The network is a " in one
    assert "the mean of the probabilities of 3 networks. Each network is a " in several


def test_multi_line_values_stay_in_their_table_cell(
    heads: pd.DataFrame, slices: pd.DataFrame, params: Params
) -> None:
    written = params.card.model_copy(update={"licence": "ask\n  the | publisher\n"})
    card = render_card(FACTS, written, METRICS, heads, slices)
    assert r"| licence of the data | ask the \| publisher  |" in card


def test_class_names_are_escaped_on_the_page(
    heads: pd.DataFrame, slices: pd.DataFrame, params: Params
) -> None:
    slices["apart"] *= -1
    slices["apart_low"], slices["apart_high"] = slices["apart"] - 0.1, slices["apart"] + 0.1
    page = render_card_page(render_card(FACTS, params.card, METRICS, heads, slices), "#2a6f97")
    assert "&lt;b&gt;big&lt;/b&gt;" in page
    assert page.count("<table>") == 3
    assert "http" not in page
