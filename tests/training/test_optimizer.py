"""Optimizers from parameters, compared with those of Keras."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.config import Params
from person_attributes.training.optimizer import FlatAdam, make_optimizer

_Arrays = list[npt.NDArray[np.float32]]


def _apply(
    optimizer: keras.optimizers.Optimizer, steps: int, names: tuple[str, ...] = ("kernel",) * 3
) -> _Arrays:
    """Applies fixed gradients to fixed weights; returns the updated weights."""
    random = np.random.default_rng(0)
    shapes = ((3, 4), (5,), (2, 2, 2))
    variables = [
        keras.Variable(random.normal(size=shape).astype(np.float32), name=name)
        for shape, name in zip(shapes, names, strict=True)
    ]
    for _ in range(steps):
        gradients = [
            keras.ops.convert_to_tensor(random.normal(size=shape).astype(np.float32))
            for shape in shapes
        ]
        optimizer.apply(gradients, variables)
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def _make(params: Params, kind: str, rate: float = 0.01, **changes: Any) -> Any:
    plain = {"accumulate": 1, "ema_momentum": 0.0, "clip_norm": 0.0}
    section = params.optimizers[kind].model_copy(update=plain | changes)
    return make_optimizer(section, rate)


def _assert_close(ours: _Arrays, theirs: _Arrays) -> None:
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-6)


def test_flat_adam_equals_adam_of_keras() -> None:
    _assert_close(_apply(FlatAdam(0.01), 20), _apply(keras.optimizers.Adam(0.01), 20))


def test_adamw_equals_that_of_keras_and_decays_only_kernels(params: Params) -> None:
    theirs = keras.optimizers.AdamW(0.01, weight_decay=0.3)
    _assert_close(_apply(_make(params, "adamw", weight_decay=0.3), 9), _apply(theirs, 9))
    names = ("kernel", "bias", "gamma")
    ours = _apply(_make(params, "adamw", weight_decay=0.3), 9, names)
    plain = _apply(_make(params, "adam"), 9, names)
    assert (ours[0] != plain[0]).any()
    _assert_close(ours[1:], plain[1:])


def test_sgd_has_nesterov_momentum(params: Params) -> None:
    theirs = keras.optimizers.SGD(0.01, momentum=0.8, nesterov=True)
    ours = _make(params, "sgd", momentum=0.8, weight_decay=0.0)
    _assert_close(_apply(ours, 9), _apply(theirs, 9))


def test_gradients_are_clipped_together(params: Params) -> None:
    """The norm of one step of gradient descent is the rate times the clipped norm."""
    sgd = _make(params, "sgd", rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.5)
    moved = [after - before for after, before in zip(_apply(sgd, 1), _apply(sgd, 0), strict=True)]
    norm = np.sqrt(sum(float((part**2).sum()) for part in moved))
    assert norm == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_accumulated_batches_make_one_step_of_their_mean(params: Params, kind: str) -> None:
    start = np.ones((3, 4), np.float32)
    random = np.random.default_rng(0)
    gradients = random.normal(size=(6, 3, 4)).astype(np.float32)

    def train(accumulate: int, parts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        optimizer = _make(params, kind, accumulate=accumulate)
        variables = [keras.Variable(start), keras.Variable(start)]
        for part in parts:
            gradient = keras.ops.convert_to_tensor(part)
            optimizer.apply([gradient, 2 * gradient], variables)
        return np.array(keras.ops.convert_to_numpy(variables[1]))

    means = gradients.reshape(2, 3, 3, 4).mean(axis=1)
    np.testing.assert_allclose(train(3, gradients), train(1, means), rtol=1e-5)


def test_averages_follow_their_momentum_and_do_not_change_the_weights(params: Params) -> None:
    optimizer = _make(params, "sgd", momentum=0.0, weight_decay=0.0, ema_momentum=0.75)
    variable = keras.Variable(np.zeros(1, np.float32))
    average, seen = None, []
    for _ in range(5):
        optimizer.apply([keras.ops.convert_to_tensor(np.array([-100.0], np.float32))], [variable])
        seen.append(_read(variable))
        average = seen[-1] if average is None else 0.75 * average + 0.25 * seen[-1]
    kept = _read(optimizer._model_variables_moving_average[0])
    assert kept == pytest.approx(average, rel=1e-5)
    optimizer.finalize_variable_values([variable])
    assert _read(variable) == pytest.approx(seen[-1])


def test_averages_of_accumulated_batches_are_those_of_their_steps(params: Params) -> None:
    gradients = np.random.default_rng(0).normal(size=(12, 1)).astype(np.float32)

    def average(accumulate: int, parts: npt.NDArray[np.float32]) -> float:
        changes = {"weight_decay": 0.0, "ema_momentum": 0.75, "accumulate": accumulate}
        optimizer = _make(params, "sgd", rate=1.0, **changes)
        variable = keras.Variable(np.zeros(1, np.float32))
        for part in parts:
            optimizer.apply([keras.ops.convert_to_tensor(part)], [variable])
        return _read(optimizer._model_variables_moving_average[0])

    steps = gradients.reshape(4, 3, 1).mean(axis=1)
    assert average(3, gradients) == pytest.approx(average(1, steps), rel=1e-5)
    # Batches of an incomplete step do not change the average.
    assert average(3, gradients[:11]) == pytest.approx(average(1, steps[:3]), rel=1e-5)


def test_weight_decay_of_sgd_is_that_of_pytorch_divided_by_one_minus_momentum(
    params: Params,
) -> None:
    """PyTorch adds the decay to the gradient, so momentum repeats it."""
    decay, momentum, rate, steps = 5e-4, 0.9, 0.01, 2000
    optimizer = _make(
        params, "sgd", rate, momentum=momentum, nesterov=False, weight_decay=decay / (1 - momentum)
    )
    variable = keras.Variable(np.ones(1, np.float32), name="kernel")
    weight, velocity = 1.0, 0.0
    for _ in range(steps):
        optimizer.apply([keras.ops.zeros(1)], [variable])
        velocity = momentum * velocity + decay * weight
        weight -= rate * velocity
    assert _read(variable) == pytest.approx(weight, rel=1e-3)


def _read(variable: keras.Variable) -> float:
    """Reads a single value; `float` of a variable warns on PyTorch if it requires a gradient."""
    return float(keras.ops.convert_to_numpy(variable)[0])
