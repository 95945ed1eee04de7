from dataclasses import replace

import numpy as np
import pytest

from person_attributes.config import GateParams, Params
from person_attributes.evaluation import metrics
from person_attributes.evaluation.gate import (
    Condition,
    check_claims,
    check_compressed,
    check_progress,
    format_conditions,
)
from person_attributes.evaluation.predictions import Predictions


@pytest.fixture
def gate(params: Params) -> GateParams:
    return params.registry.gate


@pytest.fixture
def predictions(random: np.random.Generator) -> Predictions:
    y_true = {head: np.eye(3, dtype=np.float32)[random.integers(0, 3, 90)] for head in ("a", "b")}
    y_prob = {
        head: (0.5 * truth + 0.5 * random.dirichlet([1, 1, 1], 90)).astype(np.float32)
        for head, truth in y_true.items()
    }
    return Predictions(np.arange(500, 590), y_true, y_prob)


def _claim(predictions: Predictions) -> dict[str, float]:
    claimed = metrics.sum_up(predictions.y_true, predictions.y_prob)
    for head, y_true in predictions.y_true.items():
        claimed[f"{head}_accuracy"] = float(metrics.accuracy(y_true, predictions.y_prob[head]))
    return claimed | {"train_loss": claimed["loss"]}


def _failed(conditions: list[Condition]) -> list[str]:
    return [condition.name for condition in conditions if not condition.holds]


def test_correct_metrics_pass(predictions: Predictions, gate: GateParams) -> None:
    assert _failed(check_claims(predictions, _claim(predictions), range(500), gate)) == []


def test_accuracies_of_one_hot_columns_are_detected(
    predictions: Predictions, gate: GateParams
) -> None:
    """Keras' `binary_accuracy` is the error behind published mean accuracies above 0.80."""
    wrong = predictions.y_prob["a"].copy()
    wrong[::3] = np.roll(wrong[::3], 1, axis=1)
    worse = replace(predictions, y_prob={"a": wrong, "b": predictions.y_prob["b"]})
    claimed = _claim(worse)
    claimed["a_accuracy"] = float(((wrong > 0.5) == (worse.y_true["a"] > 0.5)).mean())
    (found,) = [one for one in check_claims(worse, claimed, [], gate) if not one.holds]
    assert found.name == "accuracies"
    assert "of single one-hot columns" in found.received


def test_training_rows_among_the_scored_rows_are_detected(
    predictions: Predictions, gate: GateParams
) -> None:
    conditions = check_claims(predictions, _claim(predictions), range(560, 900), gate)
    (found,) = [one for one in conditions if not one.holds]
    assert (found.name, found.received) == ("training rows among the scored rows", "30")


def test_a_validation_loss_far_below_the_training_loss_is_detected(
    predictions: Predictions, gate: GateParams
) -> None:
    claimed = _claim(predictions)
    claimed["train_loss"] = claimed["loss"] * 1.5
    expected = ["validation loss below the training loss"]
    assert _failed(check_claims(predictions, claimed, [], gate)) == expected
    claimed["train_loss"] = claimed["loss"] * 1.1
    assert _failed(check_claims(predictions, claimed, [], gate)) == []


def test_a_loss_that_is_not_the_sum_of_cross_entropies_is_detected(
    predictions: Predictions, gate: GateParams
) -> None:
    claimed = _claim(predictions)
    claimed["loss"] /= 2
    claimed["train_loss"] /= 2
    assert _failed(check_claims(predictions, claimed, [], gate)) == ["loss"]


def _worsen(predictions: Predictions, head: str, rows: int) -> Predictions:
    """Makes the first correct rows of one head wrong."""
    answers = predictions.y_prob[head].copy()
    truth = predictions.y_true[head].argmax(axis=1)
    right = np.flatnonzero(answers.argmax(axis=1) == truth)[:rows]
    answers[right] = np.roll(answers[right], 1, axis=1)
    return replace(predictions, y_prob={**predictions.y_prob, head: answers})


def test_a_regression_fails(predictions: Predictions, gate: GateParams, params: Params) -> None:
    worse = _worsen(predictions, "a", 20)
    progress = check_progress(worse, predictions, gate, params.evaluation, seed=0)
    assert _failed(progress) == []
    regression = check_progress(predictions, worse, gate, params.evaluation, seed=0)
    assert {"gain in mean accuracy", "largest drop of a head"} <= set(_failed(regression))
    same = check_progress(predictions, predictions, gate, params.evaluation, seed=0)
    assert _failed(same) == []


def test_a_compressed_network_may_lose_accuracy_by_chance_only(
    predictions: Predictions, gate: GateParams, params: Params
) -> None:
    strict = gate.model_copy(update={"min_gain": 0.01, "require_significance": True})
    slightly, much = (_worsen(predictions, "a", rows) for rows in (1, 20))
    assert _failed(check_compressed(predictions, slightly, strict, params.evaluation, seed=0)) == []
    failed = _failed(check_compressed(predictions, much, strict, params.evaluation, seed=0))
    assert {"loss in mean accuracy", "largest drop of a head"} <= set(failed)


def test_a_gain_of_one_head_does_not_offset_a_drop_of_another(
    predictions: Predictions, gate: GateParams, params: Params
) -> None:
    """The challenger gains in mean accuracy, but `b` loses 0.1."""
    champion, challenger = _worsen(predictions, "a", 30), _worsen(predictions, "b", 9)
    conditions = check_progress(champion, challenger, gate, params.evaluation, seed=0)
    assert "largest drop of a head" in _failed(conditions)
    assert "gain in mean accuracy" not in _failed(conditions)
    (drop,) = [one for one in conditions if one.name == "largest drop of a head"]
    assert drop.received == "0.1000 (b)"


def test_a_tie_passes(predictions: Predictions, gate: GateParams, params: Params) -> None:
    """One head gains as many rows as the other loses; rounding errors do not decide."""
    for rows in range(1, 4):
        champion, challenger = (_worsen(predictions, head, rows) for head in ("a", "b"))
        conditions = check_progress(champion, challenger, gate, params.evaluation, seed=0)
        assert "gain in mean accuracy" not in _failed(conditions)


def test_an_insignificant_gain_fails_if_significance_is_required(
    predictions: Predictions, gate: GateParams, params: Params
) -> None:
    strict = gate.model_copy(update={"require_significance": True, "min_gain": 0.001})
    champion = _worsen(predictions, "a", 1)
    conditions = check_progress(champion, predictions, strict, params.evaluation, seed=0)
    assert _failed(conditions) == ["gain in mean accuracy"]
    champion = _worsen(predictions, "a", 30)
    conditions = check_progress(champion, predictions, strict, params.evaluation, seed=0)
    assert _failed(conditions) == []


def _draw(random: np.random.Generator, *, is_reversed: bool) -> Predictions:
    """Draws two heads of 209 rows; reversed confidences are low where the accuracy is high."""
    y_true, y_prob = {}, {}
    for head in ("a", "b"):
        exact = random.uniform(0.55, 0.99, 209)
        y_true[head] = np.eye(2, dtype=np.float32)[(random.random(209) >= exact).astype(int)]
        stated = 1.54 - exact if is_reversed else exact
        y_prob[head] = np.stack([stated, 1 - stated], axis=1).astype(np.float32)
    return Predictions(np.arange(209), y_true, y_prob)


def test_a_worse_calibration_fails(gate: GateParams, params: Params) -> None:
    """Temperatures cannot correct reversed confidences."""
    random = np.random.default_rng(0)
    champion, reversed_ = (_draw(random, is_reversed=worse) for worse in (False, True))
    challenger = replace(champion, y_prob=reversed_.y_prob)
    conditions = check_progress(champion, challenger, gate, params.evaluation, seed=0)
    assert _failed(conditions) == ["mean calibration error"]


def test_a_champion_with_a_low_error_by_chance_does_not_refuse_a_calibrated_network(
    gate: GateParams, params: Params
) -> None:
    """The rows of a calibrated champion, and noise that calibrated networks show, too."""
    random = np.random.default_rng(1)
    champion = _draw(random, is_reversed=False)
    for _ in range(10):
        y_prob = {}
        for head, answers in champion.y_prob.items():
            stated = np.clip(answers[:, 0] + random.normal(0, 0.03, 209), 0.51, 0.99)
            y_prob[head] = np.stack([stated, 1 - stated], axis=1).astype(np.float32)
        challenger = replace(champion, y_prob=y_prob)
        conditions = check_progress(champion, challenger, gate, params.evaluation, seed=0)
        assert _failed(conditions) == []


def test_conditions_are_formatted_as_a_table() -> None:
    text = format_conditions([Condition("a", "b", "c", True), Condition("d", "e", "f", False)])
    assert text.splitlines()[2:] == ["| a | b | c | yes |", "| d | e | f | **no** |"]


def test_training_rows_without_any_loss_are_no_error(
    predictions: Predictions, gate: GateParams
) -> None:
    """A network that is sure and right on every training row has a training loss of zero."""
    for zero in (0.0, -0.0):
        claimed = _claim(predictions) | {"train_loss": zero}
        assert _failed(check_claims(predictions, claimed, range(500), gate)) == []
