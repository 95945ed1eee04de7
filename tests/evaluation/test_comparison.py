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
    """Two classes a head, all labelled 0, answered with .9 rightly or wrongly."""
    y_true, y_prob = {}, {}
    for head, hits in right.items():
        y_true[head] = np.tile(np.array([1, 0], np.float32), (len(hits), 1))
        said = np.where(hits, 0.9, 0.1).astype(np.float32)
        y_prob[head] = np.stack([said, 1 - said], axis=1)
    return Predictions(np.arange(len(hits)), y_true, y_prob)


def test_differences_and_mcnemar_counted_by_hand(params: Params) -> None:
    """Of 100 rows the first alone has 2 right, the second alone 12."""
    first = _predict({"a": [True] * 60 + [False] * 40, "b": [True] * 100})
    second = _predict({"a": [False] * 2 + [True] * 70 + [False] * 28, "b": [True] * 100})
    comparison = compare_predictions(first, second, params.evaluation, seed=0)
    a, b = comparison.heads.loc["a"], comparison.heads.loc["b"]
    assert (a["only_first"], a["only_second"], a["rows"]) == (2, 12, 100)
    assert (a["first"], a["second"]) == (0.6, 0.7)
    assert a["gain"] == pytest.approx(0.1)
    assert a["p_value"] == pytest.approx(2 * 2 * binom.cdf(2, 14, 0.5))  # two sides, two heads
    assert (b["gain"], b["p_value"]) == (0, 1)
    gain, low, high = comparison.mean_accuracy
    assert gain == pytest.approx(0.05)
    # Half of 1.96 standard errors of a paired difference: sqrt((.14 - .01) / 100).
    assert low == pytest.approx(0.05 - 0.98 * 0.036, abs=0.006)
    assert high == pytest.approx(0.05 + 0.98 * 0.036, abs=0.006)
    assert comparison.is_more_than_chance
    assert word_verdict(comparison).startswith("The second is better by more than chance")


def test_a_tie_is_no_more_than_chance(params: Params) -> None:
    first = _predict({"a": [True] * 50 + [False] * 50})
    second = _predict({"a": [True] * 49 + [False] * 50 + [True]})
    comparison = compare_predictions(first, second, params.evaluation, seed=0)
    assert not comparison.is_more_than_chance
    text = format_comparison(comparison, ("one", "two"), {"seed": ("1", "2")}, 0.95)
    assert "seed: 1 -> 2" in text
    assert text.splitlines()[-1].startswith("No more than chance: mean accuracy +0.0000")


def test_the_loss_is_compared_where_no_answer_changes(params: Params) -> None:
    first = _predict({"a": [True] * 50})
    surer = {"a": np.tile(np.array([0.99, 0.01], np.float32), (50, 1))}
    comparison = compare_predictions(first, replace(first, y_prob=surer), params.evaluation, 0)
    assert comparison.loss[0] == pytest.approx(np.log(0.9 / 0.99), rel=1e-4)
    assert not comparison.is_more_than_chance


@pytest.mark.parametrize("other", ["rows", "labels", "heads"])
def test_what_was_scored_otherwise_is_refused(params: Params, other: str) -> None:
    first = _predict({"a": [True] * 5})
    second = {
        "rows": replace(first, rows=np.arange(3, 8)),
        "labels": replace(first, y_true={"a": first.y_true["a"][:, ::-1]}),
        "heads": _predict({"b": [True] * 5}),
    }[other]
    with pytest.raises(ComparisonError, match=f"the (validation )?{other}( of a)? differ"):
        compare_predictions(first, second, params.evaluation, seed=0)
