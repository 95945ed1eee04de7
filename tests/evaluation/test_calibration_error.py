"""The debiased ECE, compared with its definition and with simulations of known networks."""

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.config import EvaluationParams, Params
from person_attributes.evaluation.calibration_error import (
    bin_rows,
    calibration_error,
    estimate_calibration_error,
    simulate_calibrated,
)

_Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@pytest.fixture
def section(params: Params) -> EvaluationParams:
    return params.evaluation


def _predict(confidences: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_]) -> _Arrays:
    """Two classes; class 0 is predicted."""
    y_prob = np.stack([confidences, 1 - confidences], axis=1).astype(np.float32)
    return np.eye(2, dtype=np.float32)[np.where(is_right, 0, 1)], y_prob


def _simulate(rows: int, temperature: float, random: np.random.Generator) -> tuple[_Arrays, float]:
    """Draws a network whose logits are `temperature` times too large, and returns its true ECE."""
    confidences = 0.5 + 0.5 * random.beta(2, 1, rows)
    exact = 1 / (1 + (1 / confidences - 1) ** (1 / temperature))
    arrays = _predict(confidences, random.random(rows) < exact)
    return arrays, float(np.sqrt(np.mean((exact - confidences) ** 2)))


def test_the_error_is_the_mean_product_of_the_gaps_of_two_rows(random: np.random.Generator) -> None:
    confidences = random.uniform(0.5, 1, 12)
    y_true, y_prob = _predict(confidences, random.random(12) < 0.2)
    gaps = y_true[:, 0] - y_prob[:, 0].astype(np.float64)
    order = np.argsort(confidences)
    squares = [
        np.mean([gaps[one] * gaps[other] for one, other in permutations(rows, 2)])
        for rows in order.reshape(3, 4)
    ]
    assert calibration_error(y_true, y_prob, 3) == pytest.approx(np.sqrt(np.mean(squares)))


def test_with_one_confidence_per_bin_the_error_is_that_of_kumar() -> None:
    """Definition 4.1 of Kumar et al. 2019: (accuracy - confidence)^2 - variance / (rows - 1)."""
    confidences = np.repeat([0.6, 0.95], 40)
    is_right = np.arange(80) % 5 > 2
    accuracy = is_right.reshape(2, 40).mean(axis=1)
    squares = (accuracy - [0.6, 0.95]) ** 2 - accuracy * (1 - accuracy) / 39
    expected = np.sqrt(squares.mean())
    assert calibration_error(*_predict(confidences, is_right), 2) == pytest.approx(expected)


def test_bins_have_equal_numbers_of_rows_and_two_at_least() -> None:
    confidences = np.array([0.9, 0.5, 0.7, 0.6, 0.8])
    assert [bin.tolist() for bin in bin_rows(confidences, 2)] == [[1, 3, 2], [4, 0]]
    assert [len(bin) for bin in bin_rows(confidences, 15)] == [3, 2]
    assert [len(bin) for bin in bin_rows(confidences[:1], 15)] == [1]


def test_few_labels(section: EvaluationParams) -> None:
    y_true, y_prob = _predict(np.full(3, 0.8), np.full(3, True))
    y_true[1:] = 0
    assert estimate_calibration_error(y_true, y_prob, section) == (0, 0, 1)
    assert not simulate_calibrated(y_true, y_prob, section, np.random.default_rng(0)).any()
    y_true[0] = 0
    assert np.isnan(estimate_calibration_error(y_true, y_prob, section)).all()


def test_rows_without_a_label_are_ignored(random: np.random.Generator) -> None:
    (y_true, y_prob), _ = _simulate(90, 2.0, random)
    expected = calibration_error(y_true[:50], y_prob[:50], 5)
    y_true[50:] = 0
    assert calibration_error(y_true, y_prob, 5) == expected


@pytest.mark.parametrize("rows", [209, 939])
@pytest.mark.parametrize("temperature", [1.0, 1.5, 2.5])
def test_the_interval_covers_the_true_error(
    section: EvaluationParams, rows: int, temperature: float
) -> None:
    """300 networks each: calibrated, overconfident and very overconfident."""
    random, covered, squares = np.random.default_rng(0), 0, []
    for _ in range(300):
        arrays, true = _simulate(rows, temperature, random)
        value, low, high = estimate_calibration_error(*arrays, section)
        covered += low <= true <= high
        squares.append(value**2 - true**2)
        assert low <= value <= high
    assert covered / 300 >= 0.92


def test_a_calibrated_network_shows_the_expected_error(section: EvaluationParams) -> None:
    random = np.random.default_rng(0)
    drawn = [_simulate(209, 1.0, random)[0] for _ in range(400)]
    shown = np.mean([calibration_error(*each, section.calibration_bins) for each in drawn])
    expected = np.mean([simulate_calibrated(*each, section, random) for each in drawn[:5]])
    assert expected == pytest.approx(shown, rel=0.15)


def test_saturated_confidences_have_an_interval(section: EvaluationParams) -> None:
    """All rows are right, with confidences that leave room for an error."""
    arrays = _predict(np.full(100, 0.99), np.full(100, True))
    value, low, high = estimate_calibration_error(*arrays, section)
    assert low == 0
    assert value == pytest.approx(0.01, abs=1e-4)
    assert high > 0.02
