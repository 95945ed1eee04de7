"""What a phase minimises, and what it reports whatever that is."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from person_attributes.config import LossParams
from person_attributes.runtime.devices import count_devices, is_across_hosts, sum_over_devices

OBJECTIVE = "objective"
"""The figure that is minimised; `loss` stays the plain sum of the heads' cross-entropies."""


def make_losses(
    loss: LossParams, labels: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, keras.losses.Loss]:
    """Makes the loss of each head.

    Args:
        loss: Smoothing, focus and balance.
        labels: One-hot labels of the training rows, `{head: (n, classes)}`.

    Returns:
        A loss for each head, from probabilities.
    """
    return {head: _make_loss(loss, target) for head, target in labels.items()}


def _make_loss(loss: LossParams, target: npt.NDArray[np.float32]) -> keras.losses.Loss:
    if not loss.focal_gamma and not loss.class_balance:
        return keras.losses.CategoricalCrossentropy(label_smoothing=loss.label_smoothing)
    return keras.losses.CategoricalFocalCrossentropy(
        alpha=balance_classes(target.sum(axis=0), loss.class_balance).tolist(),
        gamma=loss.focal_gamma,
        label_smoothing=loss.label_smoothing,
    )


def balance_classes(counts: npt.NDArray[Any], beta: float) -> npt.NDArray[np.float64]:
    """Weighs classes by their effective number of rows (Cui et al. 2019, equation 2).

    Args:
        counts: Training rows of each class.
        beta: 0 weighs classes alike; near 1 weighs them by one over their number.

    Returns:
        A weight for each class; they add up to the number of classes, as in the paper. A class
        without any row weighs 1, and takes no part.
    """
    weights = np.ones(len(counts))
    is_there = counts > 0
    inverse = (1 - beta) / (1 - np.power(beta, counts[is_there].astype(np.float64)))
    weights[is_there] = inverse * is_there.sum() / inverse.sum()
    return weights


class PhaseNetwork(keras.Model):
    """A classifier, or its towers, with the objective of a phase.

    It shares the layers of what it is made of. What Keras reports is named here: `loss`, the sum of
    the heads' cross-entropies; `{head}_loss` and `{head}_accuracy`; `objective`, what is minimised;
    and, where weights of heads are learned, `{head}_loss_weight`.
    """

    def __init__(
        self,
        classifier: keras.Model,
        losses: Mapping[str, keras.losses.Loss],
        loss: LossParams,
    ) -> None:
        super().__init__(classifier.input, classifier.output, name="phase")
        self._head_losses = dict(losses)
        self._head_weights = {head: loss.head_weights.get(head, 1.0) for head in losses}
        self._log_variances = {}
        if loss.head_weighting == "learned":
            self._log_variances = {
                head: self.add_weight(shape=(), initializer="zeros", name=f"{head}_log_variance")
                for head in losses
            }

    @property
    def heads(self) -> list[str]:
        return list(self.output)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Computes the objective of a batch; Keras calls it.

        Learned weights are those of Kendall et al. 2018 for classification: each head's loss is
        divided by a variance, whose logarithm is trained, and half that logarithm is added.
        """
        total: Any = 0.0
        for head, loss in self._head_losses.items():
            # Keras divides a loss by the number of devices, as if each had as many rows.
            value = loss(y[head], y_pred[head], sample_weight[head]) * count_devices()
            if self._log_variances:
                log_variance = ops.cast(self._log_variances[head], value.dtype)
                value = ops.exp(-log_variance) * value + log_variance / 2
            total += self._head_weights[head] * value
        return total * _share_of_batch(y, total.dtype)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Gives the figures after a batch; Keras calls it, and takes their mean over hosts.

        It does so along a first axis, which figures do not have.
        """
        told: dict[str, Any] = super().compute_metrics(x, y, y_pred, sample_weight)
        if not is_across_hosts():
            return told
        return {name: ops.reshape(value, (1,)) for name, value in told.items()}

    def _maybe_symbolic_build(self, *arguments: Any, **options: Any) -> None:
        """Does nothing: `check_pairing` has built all there is, and hosts would stumble here."""

    def get_metrics_result(self) -> dict[str, Any]:
        """Names the figures; Keras leaves out the name of the head where there is one alone."""
        told = super().get_metrics_result()
        figures = {OBJECTIVE: told["loss"]}
        for head in self.heads:
            prefix = f"{head}_" if len(self.heads) > 1 else ""
            figures[f"{head}_loss"] = told[f"{prefix}cross_entropy"]
            figures[f"{head}_accuracy"] = told[f"{prefix}accuracy"]
        figures["loss"] = sum(figures[f"{head}_loss"] for head in self.heads)
        return figures

    def loss_weights_of_heads(self) -> dict[str, float]:
        """Gives the weights that are learned, as figures; nothing where they are fixed."""
        return {
            f"{head}_loss_weight": float(np.exp(-ops.convert_to_numpy(log_variance)))
            for head, log_variance in self._log_variances.items()
        }


def _share_of_batch(y: Mapping[str, Any], dtype: Any) -> Any:
    """Says what share of the batch's rows this device has; the last batch may not divide."""
    if count_devices() == 1:
        return 1.0
    rows = ops.cast(ops.shape(next(iter(y.values())))[0], dtype)
    return rows / sum_over_devices([rows])[0]


def compile_network(
    network: PhaseNetwork, optimizer: keras.optimizers.Optimizer, *, jit_compile: bool
) -> None:
    """Gives every head a cross-entropy and an accuracy to report, and the network its optimizer.

    JAX always compiles the step: without, it would compile and start every operation by itself.
    """
    is_jax = keras.backend.backend() == "jax"
    network.compile(
        optimizer=optimizer,
        weighted_metrics={
            head: [
                keras.metrics.CategoricalAccuracy(name="accuracy"),
                keras.metrics.CategoricalCrossentropy(name="cross_entropy"),
            ]
            for head in network.heads
        },
        jit_compile=jit_compile or is_jax,
    )
