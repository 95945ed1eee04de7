import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.evaluation.calibration import cross_fit, fit_temperatures, scale, scale_heads
from person_attributes.evaluation.metrics import calibration_error, cross_entropy

_ROWS = 4000


@pytest.fixture
def too_sure(
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Labels drawn from honest probabilities, and what a network says whose logits are doubled."""
    honest = random.dirichlet([1, 1, 1], _ROWS)
    labels = (random.random((_ROWS, 1)) < honest.cumsum(axis=1)).argmax(axis=1)
    return np.eye(3, dtype=np.float32)[labels], scale(honest.astype(np.float32), 0.5)


def test_the_temperature_that_was_put_in_is_found(
    too_sure: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    y_true, y_prob = too_sure
    assert fit_temperatures({"a": y_true}, {"a": y_prob})["a"] == pytest.approx(2, rel=0.08)


def test_rows_that_were_not_fitted_are_calibrated(
    too_sure: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    y_true, y_prob = too_sure
    scaled = cross_fit({"a": y_true}, {"a": y_prob}, folds=5, seed=1)["a"]
    assert calibration_error(y_true, scaled, 15) < 0.4 * calibration_error(y_true, y_prob, 15)
    assert cross_entropy(y_true, scaled) < cross_entropy(y_true, y_prob)


def test_no_row_is_scaled_by_its_own_label(
    too_sure: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    y_true, y_prob = too_sure[0][:20].copy(), too_sure[1][:20]
    before = cross_fit({"a": y_true}, {"a": y_prob}, folds=5, seed=1)["a"]
    y_true[7] = np.roll(y_true[7], 1)
    after = cross_fit({"a": y_true}, {"a": y_prob}, folds=5, seed=1)["a"]
    np.testing.assert_array_equal(before[7], after[7])
    assert (before != after).any()


def test_a_temperature_moves_no_answer(random: np.random.Generator) -> None:
    y_prob = random.dirichlet([1, 1, 1], 100).astype(np.float32)
    scaled = scale_heads({"a": y_prob}, {"a": 3.0})["a"]
    np.testing.assert_array_equal(scaled.argmax(axis=1), y_prob.argmax(axis=1))
    np.testing.assert_allclose(scaled.sum(axis=1), 1, rtol=1e-6)
    assert scaled.max() < y_prob.max()
    np.testing.assert_allclose(scale(y_prob, 1.0), y_prob, rtol=1e-5)


def test_a_head_without_labels_keeps_its_temperature() -> None:
    y_prob = np.full((4, 2), 0.5, np.float32)
    assert fit_temperatures({"a": np.zeros((4, 2), np.float32)}, {"a": y_prob}) == {"a": 1.0}


def test_rows_may_be_fewer_than_folds() -> None:
    y_true = np.eye(2, dtype=np.float32)
    scaled = cross_fit({"a": y_true}, {"a": np.full((2, 2), 0.5, np.float32)}, folds=5, seed=0)
    assert np.isfinite(scaled["a"]).all()
