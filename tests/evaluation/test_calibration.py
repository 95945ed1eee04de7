import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.evaluation.calibration import cross_fit, fit_temperatures, scale, scale_heads
from person_attributes.evaluation.calibration_error import calibration_error
from person_attributes.evaluation.metrics import cross_entropy

_ROWS = 4000


@pytest.fixture
def overconfident(
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Labels drawn from known probabilities, and predictions with twice the logits."""
    exact = random.dirichlet([1, 1, 1], _ROWS)
    labels = (random.random((_ROWS, 1)) < exact.cumsum(axis=1)).argmax(axis=1)
    return np.eye(3, dtype=np.float32)[labels], scale(exact.astype(np.float32), 0.5)


def test_fit_recovers_a_known_temperature(
    overconfident: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    y_true, y_prob = overconfident
    assert fit_temperatures({"a": y_true}, {"a": y_prob})["a"] == pytest.approx(2, rel=0.08)


def test_cross_fit_calibrates_held_out_rows(
    overconfident: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    y_true, y_prob = overconfident
    scaled = cross_fit({"a": y_true}, {"a": y_prob}, folds=5, seed=1)["a"]
    assert calibration_error(y_true, scaled, 15) < 0.4 * calibration_error(y_true, y_prob, 15)
    assert cross_entropy(y_true, scaled) < cross_entropy(y_true, y_prob)


def test_the_label_of_a_row_does_not_change_its_own_scaling(
    overconfident: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    y_true, y_prob = overconfident[0][:20].copy(), overconfident[1][:20]
    before = cross_fit({"a": y_true}, {"a": y_prob}, folds=5, seed=1)["a"]
    y_true[7] = np.roll(y_true[7], 1)
    after = cross_fit({"a": y_true}, {"a": y_prob}, folds=5, seed=1)["a"]
    np.testing.assert_array_equal(before[7], after[7])
    assert (before != after).any()


def test_scaling_keeps_the_predicted_classes(random: np.random.Generator) -> None:
    y_prob = random.dirichlet([1, 1, 1], 100).astype(np.float32)
    scaled = scale_heads({"a": y_prob}, {"a": 3.0})["a"]
    np.testing.assert_array_equal(scaled.argmax(axis=1), y_prob.argmax(axis=1))
    np.testing.assert_allclose(scaled.sum(axis=1), 1, rtol=1e-6)
    assert scaled.max() < y_prob.max()
    np.testing.assert_allclose(scale(y_prob, 1.0), y_prob, rtol=1e-5)


def test_a_head_without_labels_has_temperature_one() -> None:
    y_prob = np.full((4, 2), 0.5, np.float32)
    assert fit_temperatures({"a": np.zeros((4, 2), np.float32)}, {"a": y_prob}) == {"a": 1.0}


def test_cross_fit_works_with_fewer_rows_than_folds() -> None:
    y_true = np.eye(2, dtype=np.float32)
    scaled = cross_fit({"a": y_true}, {"a": np.full((2, 2), 0.5, np.float32)}, 10**9, seed=0)
    assert np.isfinite(scaled["a"]).all()
