"""Schedules follow the formulas of their papers."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.config import Params
from person_attributes.training.schedules import make_plateau, make_schedule

BATCHES, EPOCHS, TOP = 50, 8, 0.1


def _rates(params: Params, schedule: str, **changes: Any) -> npt.NDArray[np.float64]:
    """Returns the learning rate of the optimizer at every batch of a phase."""
    section = params.schedules[schedule].model_copy(update=changes)
    rate = make_schedule(section, TOP, BATCHES, EPOCHS)
    optimizer = keras.optimizers.SGD(rate)
    rates = []
    for step in range(BATCHES * EPOCHS):
        optimizer.iterations.assign(step)
        rates.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
    return np.array(rates)


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_constant_and_plateau_do_not_depend_on_the_batch(params: Params, schedule: str) -> None:
    np.testing.assert_allclose(_rates(params, schedule), TOP)
    assert len(make_plateau(params.schedules[schedule])) == (schedule == "plateau")


def test_cosine_has_a_linear_warmup_and_falls_along_half_a_cosine(params: Params) -> None:
    rates = _rates(params, "cosine", warmup_epochs=2.0, final_share=0.1)
    np.testing.assert_allclose(rates[:100], TOP * np.arange(100) / 100, atol=1e-6)
    share = (np.arange(100, 400) - 100) / 300
    expected = TOP * (0.1 + 0.9 * (1 + np.cos(np.pi * share)) / 2)
    np.testing.assert_allclose(rates[100:], expected, rtol=1e-4)
    np.testing.assert_allclose(_rates(params, "cosine", warmup_epochs=0.0)[0], TOP)


def test_one_cycle_rises_once_and_ends_far_below_its_start(params: Params) -> None:
    rates = _rates(params, "one_cycle", warmup_share=0.25, start_divisor=10.0, final_divisor=100.0)
    top = int(rates.argmax())
    assert top == pytest.approx(100, abs=1)
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top + 1 :]) < 0).all()
    np.testing.assert_allclose([rates[0], rates[top], rates[-1]], [0.01, TOP, 1e-4], rtol=1e-3)


def test_triangular_schedules_have_the_amplitudes_of_their_paper(params: Params) -> None:
    changes = {"divisor": 10.0, "cycle_epochs": 2.0}
    tops = slice(50, None, 100)
    plain = _rates(params, "triangular", **changes)
    np.testing.assert_allclose(plain[:51], np.linspace(0.01, TOP, 51), rtol=1e-4)
    np.testing.assert_allclose(plain[tops], [TOP] * 4, rtol=1e-4)
    np.testing.assert_allclose(plain[::100], [0.01] * 4, rtol=1e-3)
    halved = _rates(params, "triangular2", **changes)
    np.testing.assert_allclose(halved[tops], 0.01 + 0.09 / np.array([1, 2, 4, 8]), rtol=1e-4)
    shrunk = _rates(params, "exp_range", decay=0.5, **changes)
    epochs = np.array([1, 3, 5, 7])
    np.testing.assert_allclose(shrunk[tops], 0.01 + 0.09 * 0.5**epochs, rtol=1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "triangular", "exp_range"])
def test_rates_stay_between_zero_and_the_maximum(params: Params, schedule: str) -> None:
    rates = _rates(params, schedule)
    assert rates.max() <= TOP * 1.0001
    assert rates.min() >= 0
