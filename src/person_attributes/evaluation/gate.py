"""Conditions for promotion: the metrics are correct and the network is no regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from person_attributes.config import EvaluationParams, GateParams
from person_attributes.evaluation import metrics
from person_attributes.evaluation.calibration import cross_fit
from person_attributes.evaluation.calibration_error import calibration_error, simulate_calibrated
from person_attributes.evaluation.comparison import Comparison, compare_predictions
from person_attributes.evaluation.metrics import Estimate
from person_attributes.evaluation.predictions import Predictions

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Condition:
    """One condition of the gate.

    Attributes:
        name: Name of the condition.
        expected: Required value, in words.
        received: Actual value, in words.
        holds: Whether the condition is met.
    """

    name: str
    expected: str
    received: str
    holds: bool

    def __str__(self) -> str:
        return f"{self.name}: expected {self.expected}, received {self.received}"


def check_claims(
    predictions: Predictions,
    claimed: Mapping[str, float],
    trained_rows: Sequence[int],
    gate: GateParams,
) -> list[Condition]:
    """Compares claimed metrics with the predictions that they were computed from.

    The conditions catch errors in published results on this data set: accuracies of single one-hot
    columns, training rows among the scored rows, and losses that only training rows can reach.

    Args:
        predictions: Predictions on the validation rows.
        claimed: Metrics by the names of `Scores.to_metrics`, and `train_loss`.
        trained_rows: Numbers of all training rows.
        gate: The section `registry.gate`.

    Returns:
        The conditions, each with its expected and its received value.
    """
    leaked = np.intersect1d(predictions.rows, trained_rows)
    lowest = (1 - gate.max_validation_lead) * claimed["train_loss"]
    return [
        Condition(
            "training rows among the scored rows",
            "none",
            str(len(leaked) or "none"),
            not len(leaked),
        ),
        _check_accuracies(predictions, claimed),
        _check_loss(predictions, claimed),
        Condition(
            "validation loss below the training loss",
            f"by at most {gate.max_validation_lead:.0%}",
            f"{claimed['loss']:.3f}, training loss {claimed['train_loss']:.3f}",
            claimed["loss"] >= lowest,
        ),
    ]


def _check_accuracies(predictions: Predictions, claimed: Mapping[str, float]) -> Condition:
    name, expected = "accuracies", "fractions of rows with the correct class"
    for head, y_true in predictions.y_true.items():
        recomputed = float(metrics.accuracy(y_true, predictions.y_prob[head]))
        value = claimed[f"{head}_accuracy"]
        if abs(value - recomputed) > _TOLERANCE:
            binary = _binary_accuracy(y_true, predictions.y_prob[head])
            what = " (accuracy of single one-hot columns)" if abs(value - binary) < 1e-3 else ""
            received = f"{head} {value:.4f}{what}, recomputed {recomputed:.4f}"
            return Condition(name, expected, received, holds=False)
    return Condition(name, expected, "equal to the recomputed values", holds=True)


def _binary_accuracy(y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32]) -> float:
    """Computes Keras' `binary_accuracy`, which counts every one-hot column, zeros included."""
    labelled = y_true.any(axis=1)
    return float(((y_prob[labelled] > 0.5) == (y_true[labelled] > 0.5)).mean())


def _check_loss(predictions: Predictions, claimed: Mapping[str, float]) -> Condition:
    loss = metrics.sum_up(predictions.y_true, predictions.y_prob)["loss"]
    return Condition(
        "loss",
        "the unweighted sum of the heads' cross-entropies",
        f"{claimed['loss']:.4f}, recomputed {loss:.4f}",
        abs(claimed["loss"] - loss) <= max(_TOLERANCE * loss, _TOLERANCE),
    )


def check_progress(
    champion: Predictions,
    challenger: Predictions,
    gate: GateParams,
    evaluation: EvaluationParams,
    seed: int,
) -> list[Condition]:
    """Compares a challenger with the champion on the same rows.

    Raises:
        OtherRowsError: If rows, labels or heads differ. Score both on the same split and data.
    """
    found = compare_predictions(champion, challenger, evaluation, seed)
    return [
        _check_gain(found.mean_accuracy, gate),
        _check_heads(found, gate),
        _check_calibration(champion, challenger, gate, evaluation, seed),
    ]


def check_compressed(
    original: Predictions,
    compressed: Predictions,
    gate: GateParams,
    evaluation: EvaluationParams,
    seed: int,
) -> list[Condition]:
    """Compares a compressed network with the original on the same rows.

    It need not gain: its mean accuracy may be lower, if the difference is not significant.
    """
    found = compare_predictions(original, compressed, evaluation, seed)
    gain, low, high = found.mean_accuracy
    return [
        Condition(
            "loss in mean accuracy",
            "not significant",
            f"gain {gain:+.4f} ({low:+.4f} to {high:+.4f})",
            high >= -_TOLERANCE,
        ),
        _check_heads(found, gate),
        _check_calibration(original, compressed, gate, evaluation, seed),
    ]


def _check_heads(found: Comparison, gate: GateParams) -> Condition:
    worst = found.heads["gain"].idxmin()
    drop = -float(found.heads["gain"].min())
    return Condition(
        "largest drop of a head",
        f"at most {gate.max_head_drop:.3f}",
        f"{drop:.4f} ({worst})" if drop > 0 else "none",
        drop <= gate.max_head_drop + _TOLERANCE,
    )


def _check_gain(estimate: Estimate, gate: GateParams) -> Condition:
    gain, low, high = estimate
    compared = low if gate.require_significance else gain
    what = "the lower end of the interval at" if gate.require_significance else "at"
    return Condition(
        "gain in mean accuracy",
        f"{what} least {gate.min_gain:+.3f}",
        f"{gain:+.4f} ({low:+.4f} to {high:+.4f})",
        compared >= gate.min_gain - _TOLERANCE,
    )


def _check_calibration(
    champion: Predictions,
    challenger: Predictions,
    gate: GateParams,
    evaluation: EvaluationParams,
    seed: int,
) -> Condition:
    """Compares the mean calibration errors after temperature scaling.

    A champion can show less than a calibrated network by chance. The increase then starts at the
    upper end of what such a network shows.
    """
    before, after = (_scale_heads(one, evaluation, seed) for one in (champion, challenger))
    bins = evaluation.calibration_bins
    errors = [
        float(np.nanmean([calibration_error(*arrays, bins) for arrays in heads]))
        for heads in (before, after)
    ]
    random = np.random.default_rng(seed)
    simulated = [simulate_calibrated(*arrays, evaluation, random) for arrays in after]
    highest = float(np.quantile(np.nanmean(simulated, axis=0), evaluation.confidence))
    return Condition(
        "mean calibration error",
        f"increase of at most {gate.max_calibration_increase:.3f}",
        f"{errors[0]:.4f} -> {errors[1]:.4f}; up to {highest:.4f} if calibrated",
        errors[1] - max(errors[0], highest) <= gate.max_calibration_increase + _TOLERANCE,
    )


def _scale_heads(
    predictions: Predictions, evaluation: EvaluationParams, seed: int
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Returns the labels and the cross-fitted probabilities of each head."""
    scaled = cross_fit(predictions.y_true, predictions.y_prob, evaluation.calibration_folds, seed)
    return [(truth, scaled[head]) for head, truth in predictions.y_true.items()]


def format_conditions(conditions: Sequence[Condition]) -> str:
    """Formats conditions as a Markdown table."""
    lines = ["| condition | expected | received | holds |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one.name} | {one.expected} | {one.received} | {'yes' if one.holds else '**no**'} |"
        for one in conditions
    ]
    return "\n".join(lines)
