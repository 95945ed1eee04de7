"""Slices: their metrics, and which ones differ from the other rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from one_hot import one_hot
from scipy.stats import false_discovery_control, fisher_exact

from person_attributes.config import EvaluationParams, Params
from person_attributes.evaluation.slices import find_unlike_slices, read_slices, score_slices


@pytest.fixture
def section(params: Params) -> EvaluationParams:
    return params.evaluation


def test_a_slice_scores_a_head_on_the_rows_of_a_class(section: EvaluationParams) -> None:
    """`a` is always correct for `b` = 0, never for `b` = 1; three rows have no label of `b`."""
    b = one_hot([0] * 40 + [1] * 30, 2)
    b[-3:] = 0
    a = one_hot([0, 1] * 35, 2)
    answers = a.copy()
    answers[40:] = 1 - answers[40:]
    classes = {"a": ["x", "y"], "b": ["yes", "no"]}
    slices = score_slices({"a": a, "b": b}, {"a": answers, "b": b}, classes, section, seed=0)
    table = slices.set_index(["head", "by", "class"])
    assert len(table) == 4
    yes, no = table.xs(("a", "b", "yes")), table.xs(("a", "b", "no"))
    assert (yes["rows"], yes["accuracy"], yes["apart"]) == (40, 1, 1)
    assert (no["rows"], no["accuracy"], no["apart"]) == (27, 0, -1)
    assert not yes["too_small"]


def test_small_slices_are_marked(section: EvaluationParams) -> None:
    b = one_hot([0] * (section.min_slice_rows - 1) + [1] * 50 + [2] * 50, 3)
    a = one_hot([0] * len(b), 2)
    classes = {"a": ["x", "y"], "b": ["few", "many", "others"]}
    slices = score_slices({"a": a, "b": b}, {"a": a, "b": b}, classes, section, seed=0)
    marked = slices.set_index(["head", "class"])["too_small"]
    assert marked["a", "few"]
    assert not marked["a", "many"]


def test_names_of_heads_and_classes_stay_text_in_the_file(
    section: EvaluationParams, tmp_path: Path
) -> None:
    a = one_hot([0, 1] * 30, 2)
    classes = {"a": ["007", "1e3"], "null": ["true", "NA"]}
    slices = score_slices({"a": a, "null": a}, {"a": a, "null": a}, classes, section, seed=0)
    slices.to_csv(tmp_path / "slices.csv", index=False)
    read = read_slices(tmp_path / "slices.csv")
    pd.testing.assert_frame_equal(read, slices, check_dtype=False)


def test_a_slice_with_few_rows_outside_it_is_too_small(section: EvaluationParams) -> None:
    """Two correct rows outside the slice are no evidence that the head is worse inside it."""
    b = one_hot([0] * 100 + [1] * 2, 2)
    a = one_hot([0] * 102, 2)
    answers = a.copy()
    answers[:50] = 1 - answers[:50]
    classes = {"a": ["x", "y"], "b": ["many", "few"]}
    slices = score_slices({"a": a, "b": b}, {"a": answers, "b": b}, classes, section, seed=0)
    many = slices.set_index(["head", "class"]).xs(("a", "many"))
    assert (many["rows"], many["apart"]) == (100, -0.5)
    assert many["too_small"]
    assert find_unlike_slices(slices, section.confidence).empty


def test_a_single_head_has_no_slices(section: EvaluationParams) -> None:
    a = one_hot([0, 1], 2)
    slices = score_slices({"a": a}, {"a": a}, {"a": ["x", "y"]}, section, seed=0)
    assert find_unlike_slices(slices, section.confidence).empty
    assert {"head", "by", "class", "too_small", "apart_low"} <= set(slices.columns)


def test_p_values_are_fishers_corrected_for_the_slices_that_are_large_enough(
    section: EvaluationParams, random: np.random.Generator
) -> None:
    a, b = one_hot(random.integers(0, 2, 300), 2), one_hot(random.integers(0, 3, 300), 3)
    b[0] = 0
    answers = one_hot(random.integers(0, 2, 300), 2)
    classes = {"a": ["x", "y"], "b": ["k", "l", "m"]}
    slices = score_slices({"a": a, "b": b}, {"a": answers, "b": b}, classes, section, seed=0)
    right = a.argmax(axis=1) == answers.argmax(axis=1)
    labelled = b.sum(axis=1) > 0
    p_values = []
    for number in range(3):
        inside, outside = b[:, number] == 1, labelled & (b[:, number] == 0)
        table = [[right[rows].sum(), (~right[rows]).sum()] for rows in (inside, outside)]
        p_values.append(fisher_exact(table).pvalue)
    p_values += [1.0, 1.0]  # `b` is always right
    by_head = slices.set_index("head")["p_value"]
    expected = false_discovery_control(p_values)
    assert [*by_head["a"], *by_head["b"]] == pytest.approx(list(expected))


def test_slices_that_do_not_differ_are_rarely_selected(section: EvaluationParams) -> None:
    """5 % of the evaluations of independent heads are expected to select any slice."""
    few = section.model_copy(update={"bootstrap_samples": 2})
    random, selected = np.random.default_rng(0), 0
    classes = {head: [f"{head}{number}" for number in range(4)] for head in "abcd"}
    for _ in range(25):
        y_true = {head: one_hot(random.integers(0, 4, 209), 4) for head in classes}
        answers = {
            head: np.where(random.random((209, 1)) < 0.8, truth, np.roll(truth, 1, axis=1))
            for head, truth in y_true.items()
        }
        slices = score_slices(y_true, answers, classes, few, seed=0)
        selected += len(find_unlike_slices(slices, section.confidence)) > 0
    assert selected <= 4
