"""The objective that a phase minimizes, and the metrics that every phase reports."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from person_attributes.config import LossParams
from person_attributes.evaluation.metrics import SMALLEST_PROBABILITY
from person_attributes.runtime.devices import count_devices, is_across_hosts
from person_attributes.training.replicas import sum_over_devices

OBJECTIVE = "objective"
"""The metric that is minimized; `loss` is always the plain sum of the heads' cross-entropies."""


def make_losses(
    loss: LossParams, labels: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, keras.losses.Loss]:
    """Makes the loss of each head.

    Args:
        loss: Label smoothing, focal gamma and class balance.
        labels: One-hot labels of the training rows, `{head: (n, classes)}`.

    Returns:
        A loss for each head; it reads probabilities, not logits.
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
    """Weights classes by their effective number of rows (Cui et al. 2019, equation 2).

    Args:
        counts: Number of training rows of each class.
        beta: In 0 to 1. 0 gives equal weights; close to 1 gives inverse class frequencies.

    Returns:
        A weight for each class. The weights sum to the number of classes, as in the paper. A class
        without rows has weight 1.
    """
    weights = np.ones(len(counts))
    is_present = counts > 0
    inverse = (1 - beta) / (1 - np.power(beta, counts[is_present].astype(np.float64)))
    weights[is_present] = inverse * is_present.sum() / inverse.sum()
    return weights


class PhaseNetwork(keras.Model):
    """A classifier, or its towers, with the objective of a phase.

    It shares the layers of the classifier. It reports `loss`, the sum of the heads'
    cross-entropies; `{head}_loss` and `{head}_accuracy`; and `objective`, which is minimized.
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

        Learned weights follow Kendall et al. 2018 for classification: each head's loss is divided
        by a variance, and half the logarithm of the variance is added. The logarithm is trained.
        """
        total: Any = 0.0
        for head, loss in self._head_losses.items():
            # Keras divides a loss by the number of devices, as if each had the same number of rows.
            value = loss(y[head], y_pred[head], sample_weight[head]) * count_devices()
            if self._log_variances:
                log_variance = ops.cast(self._log_variances[head], value.dtype)
                value = ops.exp(-log_variance) * value + log_variance / 2
            total += self._head_weights[head] * value
        return total * _share_of_batch(y, total.dtype)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Computes the metrics after a batch; Keras calls it.

        On several hosts, Keras averages metrics over a first axis, which this method adds.
        """
        metrics: dict[str, Any] = super().compute_metrics(x, y, y_pred, sample_weight)
        if not is_across_hosts():
            return metrics
        return {name: ops.reshape(value, (1,)) for name, value in metrics.items()}

    def _maybe_symbolic_build(self, *arguments: Any, **options: Any) -> None:
        """Does nothing: `check_pairing` has built the network, and on several hosts Keras fails."""

    def get_metrics_result(self) -> dict[str, Any]:
        """Names the metrics; Keras omits the name of the head if there is only one."""
        results = super().get_metrics_result()
        metrics = {OBJECTIVE: results["loss"]}
        for head in self.heads:
            prefix = f"{head}_" if len(self.heads) > 1 else ""
            metrics[f"{head}_loss"] = results[f"{prefix}cross_entropy"]
            metrics[f"{head}_accuracy"] = results[f"{prefix}accuracy"]
        metrics["loss"] = sum(metrics[f"{head}_loss"] for head in self.heads)
        return metrics

    def loss_weights_of_heads(self) -> dict[str, float]:
        """Returns the learned loss weights as metrics; empty if the weights are fixed."""
        return {
            f"{head}_loss_weight": float(np.exp(-ops.convert_to_numpy(log_variance)))
            for head, log_variance in self._log_variances.items()
        }


def _share_of_batch(y: Mapping[str, Any], dtype: Any) -> Any:
    """Returns this device's share of the batch; the devices of a last batch may differ."""
    if count_devices() == 1:
        return 1.0
    rows = ops.cast(ops.shape(next(iter(y.values())))[0], dtype)
    return rows / sum_over_devices([rows])[0]


def compile_network(
    network: PhaseNetwork, optimizer: keras.optimizers.Optimizer, *, jit_compile: bool
) -> None:
    """Compiles a network that reports the cross-entropy and the accuracy of every head.

    On JAX the step is always compiled; otherwise JAX would compile each operation separately.
    """
    is_jax = keras.backend.backend() == "jax"
    network.compile(
        optimizer=optimizer,
        weighted_metrics={
            head: [
                keras.metrics.CategoricalAccuracy(name="accuracy"),
                keras.metrics.MeanMetricWrapper(_cross_entropy, name="cross_entropy"),
            ]
            for head in network.heads
        },
        jit_compile=jit_compile or is_jax,
    )


def _cross_entropy(y_true: Any, y_prob: Any) -> Any:
    """Computes the cross-entropy of each row with the definition of `evaluate`.

    The metric of Keras uses logits in a compiled step, where a row that is sure and wrong counts
    more than here.
    """
    y_true = ops.convert_to_tensor(y_true)
    return -ops.sum(y_true * ops.log(ops.clip(y_prob, SMALLEST_PROBABILITY, 1.0)), axis=-1)
