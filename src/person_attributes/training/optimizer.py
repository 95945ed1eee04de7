"""Optimizers: SGD of Keras, and Adam (Kingma and Ba 2015) on one flat vector of all weights."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops
from keras.src.optimizers.base_optimizer import BaseOptimizer

from person_attributes.config import OptimizerParams
from person_attributes.config.training import SgdParams
from person_attributes.training.replicas import sum_over_devices

_NOT_DECAYED = ["bias", "gamma", "beta", "exponent", "log_variance"]
"""Names of weights without decay: all except kernels."""


def make_optimizer(
    optimizer: OptimizerParams,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
) -> keras.optimizers.Optimizer:
    """Makes the optimizer of a phase, in its initial state."""
    common = {
        "learning_rate": learning_rate,
        "global_clipnorm": optimizer.clip_norm or None,
        "gradient_accumulation_steps": optimizer.accumulate if optimizer.accumulate > 1 else None,
        "use_ema": optimizer.ema_momentum > 0,
        "ema_momentum": optimizer.ema_momentum,
    }
    decay = getattr(optimizer, "weight_decay", 0.0) or None
    if isinstance(optimizer, SgdParams):
        made: keras.optimizers.Optimizer = Sgd(
            momentum=optimizer.momentum,
            nesterov=optimizer.nesterov,
            weight_decay=decay,
            **common,
        )
    else:
        made = FlatAdam(
            beta_1=optimizer.beta_1,
            beta_2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            weight_decay=decay,
            **common,
        )
    if decay:
        made.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return made


class _OfPhases:
    """Differences from the optimizers of Keras.

    The end of `fit` does not overwrite the weights with the averaged ones, since a phase that
    resumes inside an epoch calls `fit` twice. `SwapEMAWeights` swaps them in for validation.

    Gradients are summed over devices before clipping. Keras would clip those of each device.

    Weights are averaged after a step. Keras would average after every batch, also if the gradients
    of several batches are accumulated for one step.
    """

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Applies the gradients of a batch, or of this device's part of it; Keras calls it."""
        super().apply(sum_over_devices(grads), trainable_variables)  # type: ignore[misc]

    # All devices have the same gradients now and compute the same step. The methods of Keras for
    # several devices do not support accumulation, so these are its methods for one device.

    def _backend_update_step(self, *arguments: Any) -> None:
        BaseOptimizer._backend_update_step(self, *arguments)

    def _apply_weight_decay(self, *arguments: Any) -> None:
        BaseOptimizer._apply_weight_decay(self, *arguments)

    def _backend_increment_gradient_accumulators(self, *arguments: Any) -> None:
        BaseOptimizer._backend_increment_gradient_accumulators(self, *arguments)

    def _update_model_variables_moving_average(self: Any, variables: Sequence[Any]) -> None:
        is_step = ops.equal((self._iterations + 1) % (self.gradient_accumulation_steps or 1), 0)
        momentum = ops.where(is_step, self.ema_momentum, 1.0)
        # The average starts at the weights of the first step.
        momentum = ops.where(ops.equal(self.iterations, 0), 0.0, momentum)
        for variable, average in zip(variables, self._model_variables_moving_average, strict=True):
            average.assign(momentum * average + (1 - momentum) * variable)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Does nothing: the weights stay as they are."""


class Sgd(_OfPhases, keras.optimizers.SGD):
    """SGD of Keras."""


class FlatAdam(_OfPhases, keras.optimizers.Adam):
    """Adam of Keras, computed on one vector of all weights.

    A DenseNet121 has 400 trainable arrays, most of them tiny, and Adam needs about twenty
    operations for each. On one vector it needs twenty operations in total, which halves the time to
    the first training step and avoids thousands of small GPU kernels. The formulas are those of
    Keras; results differ only by rounding of the last digit.
    """

    def build(self, variables: Sequence[Any]) -> None:
        """Creates one vector of first moments and one of second moments."""
        if self.built:
            return
        keras.optimizers.Optimizer.build(self, variables)
        size = sum(math.prod(variable.shape) for variable in variables)
        self._mean = self.add_variable((size,), name="mean")
        self._square = self.add_variable((size,), name="square")

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        """Updates all weights after clipping and weight decay; Keras calls it."""
        gradient = ops.concatenate(
            [ops.reshape(ops.cast(gradient, "float32"), (-1,)) for gradient in grads]
        )
        step = ops.cast(self.iterations + 1, "float32")
        correction = ops.sqrt(1 - ops.power(self.beta_2, step)) / (1 - ops.power(self.beta_1, step))
        rate = ops.cast(learning_rate, "float32") * correction
        self.assign_add(self._mean, (gradient - self._mean) * (1 - self.beta_1))
        self.assign_add(self._square, (ops.square(gradient) - self._square) * (1 - self.beta_2))
        update = self._mean * rate / (ops.sqrt(self._square) + self.epsilon)
        ends = [0]
        for variable in trainable_variables:
            ends.append(ends[-1] + math.prod(variable.shape))
        parts = ops.split(update, ends[1:-1])
        for variable, part in zip(trainable_variables, parts, strict=True):
            self.assign_sub(variable, ops.reshape(part, variable.shape))
