"""Losses follow the formulas of their papers, and metrics do not depend on them."""

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.config import LossParams, Params
from person_attributes.evaluation.metrics import sum_up
from person_attributes.training.objective import (
    PhaseNetwork,
    balance_classes,
    compile_network,
    make_losses,
)

Y_TRUE = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
Y_PROB = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.05, 0.05, 0.9], [0.3, 0.3, 0.4]], "f4")
PICKED = np.array([0.7, 0.4, 0.9, 0.4])


def _loss(params: Params, **changes: Any) -> LossParams:
    return params.losses["plain"].model_copy(update=changes)


def _value(loss: LossParams, labels: npt.NDArray[np.float32] = Y_TRUE) -> float:
    (made,) = make_losses(loss, {"a": labels}).values()
    return float(made(Y_TRUE, Y_PROB))


def test_plain_is_cross_entropy(params: Params) -> None:
    assert _value(_loss(params)) == pytest.approx(-np.log(PICKED).mean(), rel=1e-5)


def test_label_smoothing_spreads_a_share_over_all_classes(params: Params) -> None:
    smooth = 0.9 * Y_TRUE + 0.1 / 3
    expected = -(smooth * np.log(Y_PROB)).sum(axis=1).mean()
    assert _value(_loss(params, label_smoothing=0.1)) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_reduces_the_weight_of_easy_rows(params: Params) -> None:
    expected = -((1 - PICKED) ** 2 * np.log(PICKED)).mean()
    assert _value(_loss(params, focal_gamma=2.0)) == pytest.approx(expected, rel=1e-5)


def test_class_balance_uses_the_effective_number_of_rows(params: Params) -> None:
    """Cui et al. 2019: (1 - beta) / (1 - beta ** n), normalized to the number of classes."""
    weights = balance_classes(np.array([1000, 100, 10]), 0.99)
    raw = np.array([0.01 / (1 - 0.99**count) for count in (1000, 100, 10)])
    np.testing.assert_allclose(weights, 3 * raw / raw.sum())
    np.testing.assert_allclose(balance_classes(np.array([9, 1]), 0.0), [1, 1])
    inverse = balance_classes(np.array([90, 10]), 0.999999)
    assert inverse[1] / inverse[0] == pytest.approx(9, rel=1e-3)
    absent = balance_classes(np.array([500, 500, 0]), 0.99)
    np.testing.assert_allclose(absent, [1, 1, 1], err_msg="a class without rows")
    labels = np.repeat(np.eye(3, dtype=np.float32), [100, 10, 1], axis=0)
    classes = balance_classes(np.array([100, 10, 1]), 0.9)
    expected = -(classes[[0, 1, 2, 2]] * np.log(PICKED)).mean()
    assert _value(_loss(params, class_balance=0.9), labels) == pytest.approx(expected, rel=1e-5)


def _network(loss: LossParams, counts: dict[str, int]) -> PhaseNetwork:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    outputs = {
        head: keras.layers.Dense(count, "softmax", name=head)(inputs)
        for head, count in counts.items()
    }
    labels = {head: np.eye(count, dtype=np.float32) for head, count in counts.items()}
    return PhaseNetwork(keras.Model(inputs, outputs), make_losses(loss, labels), loss)


def _batch(counts: dict[str, int], rows: int = 12) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(0)
    targets = {
        head: np.eye(count, dtype=np.float32)[random.integers(0, count, rows)]
        for head, count in counts.items()
    }
    weights = {head: np.ones(rows, np.float32) for head in counts}
    return random.normal(size=(rows, 4)).astype(np.float32), targets, weights


COUNTS = {"easy": 2, "hard": 3}


@pytest.mark.parametrize("counts", [COUNTS, {"only": 3}])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"label_smoothing": 0.2},
        {"focal_gamma": 2.0, "class_balance": 0.9},
        {"head_weighting": "learned"},
    ],
)
def test_the_reported_loss_is_the_sum_of_cross_entropies_for_every_objective(
    params: Params, changes: dict[str, Any], counts: dict[str, int]
) -> None:
    network = _network(_loss(params, **changes), counts)
    compile_network(network, keras.optimizers.SGD(0.0), jit_compile=False)
    inputs, targets, weights = _batch(counts)
    reported = network.test_on_batch(inputs, targets, weights, return_dict=True)
    y_prob = network.predict_on_batch(inputs)
    expected = {
        head: -np.log((target * y_prob[head]).sum(axis=1)).mean()
        for head, target in targets.items()
    }
    assert reported["loss"] == pytest.approx(sum(expected.values()), rel=1e-4)
    for head, value in expected.items():
        assert reported[f"{head}_loss"] == pytest.approx(value, rel=1e-4)
    if not changes or changes == {"head_weighting": "learned"}:
        assert reported["objective"] == pytest.approx(reported["loss"], rel=1e-4), (
            "weights start at 1"
        )
    else:
        assert reported["objective"] != pytest.approx(reported["loss"], rel=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_loss_of_a_phase_is_that_of_evaluate_for_rows_that_are_sure_and_wrong(
    params: Params, jit_compile: bool
) -> None:
    """Probabilities below 1e-7: Keras' own metric would take the logits in a compiled step."""
    network = _network(_loss(params), COUNTS)
    compile_network(network, keras.optimizers.SGD(0.0), jit_compile=jit_compile)
    inputs, targets, weights = _batch(COUNTS)
    inputs *= 100
    (reported,) = network.fit(
        inputs,
        targets,
        12,
        sample_weight=weights,
        verbose=0,
        validation_data=(inputs, targets, weights),
    ).history["val_loss"]
    y_prob = network.predict_on_batch(inputs)
    assert min(float(answers.min()) for answers in y_prob.values()) < 1e-20
    assert reported == pytest.approx(sum_up(targets, y_prob)["loss"], rel=1e-5)


def test_fixed_weights_multiply_the_losses_of_their_heads(params: Params) -> None:
    network = _network(_loss(params, head_weights={"hard": 3.0}), COUNTS)
    compile_network(network, keras.optimizers.SGD(0.0), jit_compile=False)
    reported = network.test_on_batch(*_batch(COUNTS), return_dict=True)
    assert reported["objective"] == pytest.approx(
        reported["easy_loss"] + 3 * reported["hard_loss"], rel=1e-4
    )


def test_learned_weights_converge_to_the_optimum_of_kendall(params: Params) -> None:
    """The derivative of exp(-s) L + s / 2 is zero where the weight of the head is 1 / (2 L)."""
    network = _network(_loss(params, head_weighting="learned"), COUNTS)
    batch = _batch(COUNTS, rows=200)
    for head in COUNTS:
        network.get_layer(head).trainable = False
    compile_network(network, keras.optimizers.Adam(0.05), jit_compile=False)
    for _ in range(300):
        reported = network.train_on_batch(*batch, return_dict=True)
    learned = network.loss_weights_of_heads()
    for head in COUNTS:
        expected = 1 / (2 * float(reported[f"{head}_loss"]))
        assert learned[f"{head}_loss_weight"] == pytest.approx(expected, rel=0.02)
    assert not math.isclose(learned["easy_loss_weight"], learned["hard_loss_weight"], rel_tol=0.1)
    assert _network(_loss(params), COUNTS).loss_weights_of_heads() == {}
