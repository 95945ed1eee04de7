import tracemalloc

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from one_hot import one_hot

from person_attributes.config import EvaluationParams, Params
from person_attributes.evaluation.predictions import Predictions
from person_attributes.evaluation.scores import HEAD_METRICS, Scores, score, score_classes

_ByHead = dict[str, npt.NDArray[np.float32]]


@pytest.fixture
def section(params: Params) -> EvaluationParams:
    return params.evaluation


def _score(section: EvaluationParams, y_true: _ByHead, y_prob: _ByHead) -> Scores:
    rows = np.arange(len(next(iter(y_true.values()))))
    return score(Predictions(rows, y_true, y_prob), y_prob, y_true, section, seed=0)


def test_overall_metrics_are_means_and_sums_over_heads(
    section: EvaluationParams, random: np.random.Generator
) -> None:
    y_true = {"a": one_hot(random.integers(0, 3, 80), 3), "b": one_hot([0, 1] * 40, 2)}
    y_prob = {
        head: random.dirichlet(np.ones(truth.shape[1]), 80).astype(np.float32)
        for head, truth in y_true.items()
    }
    scores = _score(section, y_true, y_prob)
    assert scores["mean_accuracy"] == pytest.approx(scores.heads["accuracy"].mean())
    assert scores["loss"] == pytest.approx(scores.heads["loss"].sum())
    assert scores.to_metrics()["mean_ece"] == pytest.approx(scores.heads["ece"].mean())
    assert scores.rows == 80
    for name in HEAD_METRICS:
        low, high = scores.heads[f"{name}_low"], scores.heads[f"{name}_high"]
        assert (low <= scores.heads[name]).all()
        assert (scores.heads[name] <= high).all()
        assert (low < high).all()


def test_the_interval_of_an_accuracy_is_that_of_a_binomial(
    section: EvaluationParams, random: np.random.Generator
) -> None:
    y_true = {"a": one_hot(random.integers(0, 2, 5000), 2)}
    noise = {"a": random.dirichlet([1, 1], 5000).astype(np.float32)}
    head = _score(section, y_true, noise).heads.loc["a"]
    # 2 x 1.96 x sqrt(0.25 / 5000)
    assert head["accuracy_high"] - head["accuracy_low"] == pytest.approx(0.0277, abs=0.004)


def test_intervals_do_not_depend_on_the_chunk_size(
    section: EvaluationParams, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    y_true = {"a": one_hot(random.integers(0, 2, 50), 2)}
    y_prob = {"a": random.dirichlet([1, 1], 50).astype(np.float32)}
    whole = _score(section, y_true, y_prob).heads
    monkeypatch.setattr("person_attributes.evaluation.bootstrap._CELLS_AT_ONCE", 700)
    pd.testing.assert_frame_equal(whole, _score(section, y_true, y_prob).heads)


def test_metrics_are_named(section: EvaluationParams) -> None:
    y_true = {"a": one_hot([0, 1], 2)}
    named = _score(section, y_true, y_true).to_metrics()
    assert named["a_accuracy"] == named["mean_accuracy"] == named["mA"] == 1
    assert named["rows"] == 2
    expected = {"loss", "a_loss", "a_macro_f1", "a_majority", "mean_accuracy_low", "a_ece"}
    assert expected | {"a_calibrated_ece", "calibrated_loss", "mean_ece_if_calibrated"} <= set(
        named
    )


def test_intervals_are_finite_with_a_single_label(section: EvaluationParams) -> None:
    """Many bootstrap samples do not contain the labelled row."""
    y_true = np.zeros((30, 2), np.float32)
    y_true[4, 1] = 1
    other = one_hot([0, 1] * 15, 2)
    heads = _score(section, {"a": y_true, "b": other}, {"a": other, "b": other}).heads
    assert np.isfinite(heads.to_numpy(float)).all()
    assert heads["rows"].tolist() == [1, 30]


def test_each_class_is_scored(section: EvaluationParams) -> None:
    y_true = {"a": one_hot([0, 0, 0, 1], 3)}
    y_prob = {"a": one_hot([0, 0, 1, 1], 3)}
    table = score_classes(y_true, y_prob, {"a": ["x", "y", "z"]}, section.confidence)
    assert table["class"].tolist() == ["x", "y", "z"]
    assert table["rows"].tolist() == [3, 1, 0]
    assert table["recall"].tolist()[:2] == [pytest.approx(2 / 3), 1]
    assert table["precision"].tolist()[:2] == [1, 0.5]
    assert np.isnan(table["recall"][2])


def test_a_head_may_have_hundreds_of_classes(
    section: EvaluationParams, random: np.random.Generator
) -> None:
    """Memory for pairs of true and predicted classes would be tens of gigabytes."""
    y_true = {"a": one_hot(random.integers(0, 300, 500), 300)}
    y_prob = {"a": random.dirichlet(np.ones(300), 500).astype(np.float32)}
    tracemalloc.start()
    try:
        scores = _score(section, y_true, y_prob)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500e6
    assert scores.heads["rows"].tolist() == [500]
