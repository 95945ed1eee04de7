from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from person_attributes.config import Params
from person_attributes.errors import ComparisonError
from person_attributes.evaluation.comparison import (
    compare_predictions,
    format_comparison,
    word_verdict,
)
from person_attributes.evaluation.predictions import Predictions


def _predict(right: dict[str, list[bool]]) -> Predictions:
    """Two classes per head, all rows labelled 0, predicted with confidence 0.9."""
    y_true, y_prob = {}, {}
    for head, is_right in right.items():
        y_true[head] = np.tile(np.array([1, 0], np.float32), (len(is_right), 1))
        probability = np.where(is_right, 0.9, 0.1).astype(np.float32)
        y_prob[head] = np.stack([probability, 1 - probability], axis=1)
    return Predictions(np.arange(len(is_right)), y_true, y_prob)


def test_gains_and_mcnemar_match_a_manual_calculation(params: Params) -> None:
    """Of 100 rows, only the first network is correct on 2, only the second on 12."""
    first = _predict({"a": [True] * 60 + [False] * 40, "b": [True] * 100})
    second = _predict({"a": [False] * 2 + [True] * 70 + [False] * 28, "b": [True] * 100})
    comparison = compare_predictions(first, second, params.evaluation, seed=0)
    a, b = comparison.heads.loc["a"], comparison.heads.loc["b"]
    assert (a["only_first"], a["only_second"], a["rows"]) == (2, 12, 100)
    assert (a["first"], a["second"]) == (0.6, 0.7)
    assert a["gain"] == pytest.approx(0.1)
    assert a["p_value"] == pytest.approx(2 * 2 * binom.cdf(2, 14, 0.5))  # two-sided, two heads
    assert (b["gain"], b["p_value"]) == (0, 1)
    gain, low, high = comparison.mean_accuracy
    assert gain == pytest.approx(0.05)
    # Half of 1.96 standard errors of a paired difference: sqrt((0.14 - 0.01) / 100).
    assert low == pytest.approx(0.05 - 0.98 * 0.036, abs=0.006)
    assert high == pytest.approx(0.05 + 0.98 * 0.036, abs=0.006)
    assert comparison.is_significant
    assert word_verdict(comparison).startswith("The second is significantly better: ")


def test_a_tie_is_not_significant(params: Params) -> None:
    first = _predict({"a": [True] * 50 + [False] * 50})
    second = _predict({"a": [True] * 49 + [False] * 50 + [True]})
    comparison = compare_predictions(first, second, params.evaluation, seed=0)
    assert not comparison.is_significant
    text = format_comparison(comparison, ("one", "two"), {"seed": ("1", "2")}, 0.95)
    assert "seed: 1 -> 2" in text
    assert text.splitlines()[-1].startswith("No significant difference: mean accuracy +0.0000")


def test_the_loss_is_compared_if_no_predicted_class_changes(params: Params) -> None:
    first = _predict({"a": [True] * 50})
    confident = {"a": np.tile(np.array([0.99, 0.01], np.float32), (50, 1))}
    comparison = compare_predictions(first, replace(first, y_prob=confident), params.evaluation, 0)
    assert comparison.loss[0] == pytest.approx(np.log(0.9 / 0.99), rel=1e-4)
    assert not comparison.is_significant


@pytest.mark.parametrize("other", ["rows", "labels", "heads"])
def test_different_rows_labels_or_heads_are_refused(params: Params, other: str) -> None:
    first = _predict({"a": [True] * 5})
    second = {
        "rows": replace(first, rows=np.arange(3, 8)),
        "labels": replace(first, y_true={"a": first.y_true["a"][:, ::-1]}),
        "heads": _predict({"b": [True] * 5}),
    }[other]
    with pytest.raises(ComparisonError, match=f"the {other}( of a)? differ"):
        compare_predictions(first, second, params.evaluation, seed=0)
