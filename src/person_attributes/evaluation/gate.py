"""Rules that a network has to pass: its figures are what they are said to be, and no step back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from person_attributes.config import EvaluationParams, GateParams
from person_attributes.evaluation import metrics
from person_attributes.evaluation.calibration import cross_fit
from person_attributes.evaluation.comparison import compare_predictions
from person_attributes.evaluation.predictions import Predictions

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Condition:
    """One rule of the gate.

    Attributes:
        name: What is looked at.
        expected: What the rule asks for.
        received: What was found.
        holds: Whether that is enough.
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
    """Holds figures against the predictions that they were computed from.

    These are the ways in which numbers of this data set have been wrong: accuracies of single
    one-hot columns, rows that had trained, and losses that only rows which had trained could have.

    Args:
        predictions: Of the validation rows.
        claimed: Figures as `Scores.to_metrics` names them, with `train_loss`.
        trained_rows: The numbers of all rows that training read.
        gate: The section `registry.gate`.
    """
    trained = np.intersect1d(predictions.rows, trained_rows)
    lead = 1 - claimed["loss"] / claimed["train_loss"]
    return [
        Condition(
            "rows that trained, among the scored",
            "none",
            str(len(trained) or "none"),
            not len(trained),
        ),
        _check_accuracies(predictions, claimed),
        _check_loss(predictions, claimed),
        Condition(
            "validation loss below that of training rows",
            f"by at most {gate.max_validation_lead:.0%}",
            f"{claimed['loss']:.3f} against {claimed['train_loss']:.3f}",
            lead <= gate.max_validation_lead,
        ),
    ]


def _check_accuracies(predictions: Predictions, claimed: Mapping[str, float]) -> Condition:
    name, expected = "accuracies", "shares of rows whose class is right"
    for head, y_true in predictions.y_true.items():
        counts = metrics.count_confusions(y_true, predictions.y_prob[head])
        accuracy, said = float(metrics.accuracy(counts)), claimed[f"{head}_accuracy"]
        if abs(said - accuracy) > _TOLERANCE:
            columns = _binary_accuracy(y_true, predictions, head)
            what = " (of single one-hot columns)" if abs(said - columns) < 1e-3 else ""
            received = f"{head} {said:.4f}{what}, which is {accuracy:.4f}"
            return Condition(name, expected, received, holds=False)
    return Condition(name, expected, "recomputed, and the same", holds=True)


def _binary_accuracy(y_true: npt.NDArray[np.float32], predictions: Predictions, head: str) -> float:
    """The figure that Keras' `binary_accuracy` would give: right zeros count as well."""
    labelled = y_true.any(axis=1)
    said = predictions.y_prob[head][labelled] > 0.5
    return float((said == (y_true[labelled] > 0.5)).mean())


def _check_loss(predictions: Predictions, claimed: Mapping[str, float]) -> Condition:
    loss = metrics.sum_up(predictions.y_true, predictions.y_prob)["loss"]
    return Condition(
        "loss",
        "the plain sum of the heads' cross-entropies",
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
    """Holds a challenger against the champion on the same rows.

    Raises:
        OtherRowsError: If they were not scored on the same rows.
    """
    found = compare_predictions(champion, challenger, evaluation, seed)
    gain, low, high = found.mean_accuracy
    worst = found.heads["gain"].idxmin()
    drop = -float(found.heads["gain"].min())
    before, after = (
        _mean_calibrated_error(one, evaluation, seed) for one in (champion, challenger)
    )
    least = low if gate.require_significance else gain
    what = "the low end of its interval at" if gate.require_significance else "at"
    return [
        Condition(
            "gain in mean accuracy",
            f"{what} least {gate.min_gain:+.3f}",
            f"{gain:+.4f} ({low:+.4f} to {high:+.4f})",
            least >= gate.min_gain - _TOLERANCE,
        ),
        Condition(
            "largest drop of a head",
            f"at most {gate.max_head_drop:.3f}",
            f"{drop:.4f} ({worst})" if drop > 0 else "none",
            drop <= gate.max_head_drop + _TOLERANCE,
        ),
        Condition(
            "mean calibration error",
            f"at most {gate.max_calibration_increase:.3f} more",
            f"{after:.4f} after {before:.4f}",
            after - before <= gate.max_calibration_increase + _TOLERANCE,
        ),
    ]


def _mean_calibrated_error(
    predictions: Predictions, evaluation: EvaluationParams, seed: int
) -> float:
    scaled = cross_fit(predictions.y_true, predictions.y_prob, evaluation.calibration_folds, seed)
    errors = [
        metrics.calibration_error(
            predictions.y_true[head], scaled[head], evaluation.calibration_bins
        )
        for head in scaled
    ]
    return float(np.nanmean(errors))


def format_conditions(conditions: Sequence[Condition]) -> str:
    """Writes conditions as a table in Markdown."""
    lines = ["| condition | expected | received | holds |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one.name} | {one.expected} | {one.received} | {'yes' if one.holds else '**no**'} |"
        for one in conditions
    ]
    return "\n".join(lines)
