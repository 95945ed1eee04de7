"""Metrics as pure functions of arrays.

`weights`, (..., n), is how often each row counts; every row counts once by default. Bootstrap
counts of shape (samples, n) return one value per sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SMALLEST_PROBABILITY = 1e-7
"""Probabilities are clipped here in every cross-entropy: no row adds more than 16.1 nats."""

Floats = npt.NDArray[np.float64]

Estimate = tuple[float, float, float]
"""A metric, and the lower and upper end of its interval."""

OneHot = Mapping[str, npt.NDArray[np.float32]]
"""One-hot labels or probabilities, `{head: (n, classes)}`. A label row of zeros is unlabelled and
ignored."""


@dataclass(frozen=True)
class ClassCounts:
    """Labelled rows of each class, (..., classes).

    Attributes:
        right: Number of rows whose true and predicted class is the class.
        true: Number of rows whose true class is the class.
        predicted: Number of rows whose predicted class is the class.
    """

    right: Floats
    true: Floats
    predicted: Floats


def count_classes(
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    weights: Floats | None = None,
) -> ClassCounts:
    """Counts the rows of each true and each predicted class."""
    weights = np.ones(len(y_true)) if weights is None else weights
    answers = _find_answers(y_true, y_prob)
    return ClassCounts(*(weights @ each for each in (y_true * answers, y_true, answers)))


def count_confusions(y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32]) -> Floats:
    """Counts (true class, predicted class) pairs: (classes, classes)."""
    counts: Floats = y_true.T @ _find_answers(y_true, y_prob)
    return counts


def accuracy(
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    weights: Floats | None = None,
) -> Floats:
    """Fraction of labelled rows whose predicted class is correct; NaN if no row has a label."""
    is_right = y_true.argmax(axis=1) == y_prob.argmax(axis=1)
    return _mean_over_rows(np.where(y_true.any(axis=1), is_right, np.nan), weights)


def recalls(counts: ClassCounts) -> Floats:
    """Recall of each class, (..., classes); NaN for a class without rows."""
    return _divide(counts.right, counts.true)


def f1_scores(counts: ClassCounts) -> Floats:
    """F1 of each class, (..., classes); NaN for a class without rows or predictions."""
    return _divide(2 * counts.right, counts.true + counts.predicted)


def balanced_accuracy(counts: ClassCounts) -> Floats:
    """Mean recall of the classes that have rows."""
    return mean_of_known(recalls(counts))


def macro_f1(counts: ClassCounts) -> Floats:
    """Mean F1 of the classes that have rows or predictions."""
    return mean_of_known(f1_scores(counts))


def mean_attribute_accuracy(counts: Mapping[str, ClassCounts]) -> Floats:
    """Computes the mA of the pedestrian attribute literature over all one-hot columns.

    mA is the mean over columns of (true positive rate + true negative rate) / 2: Deng et al.,
    Pedestrian Attribute Recognition At Far Distance, 2014; Li et al., A Richly Annotated Dataset
    for Pedestrian Attribute Recognition, 2016.
    """
    columns = []
    for one in counts.values():
        negatives = one.true.sum(axis=-1, keepdims=True) - one.true
        true_negatives = negatives - one.predicted + one.right
        columns.append((recalls(one) + _divide(true_negatives, negatives)) / 2)
    return mean_of_known(np.concatenate(columns, axis=-1))


def instance_scores(
    y_true: OneHot, y_prob: OneHot, weights: Floats | None = None
) -> dict[str, Floats]:
    """Computes precision, recall and F1 of each row over its one-hot columns, averaged over rows.

    The definitions are those of Li et al. 2016. Each head predicts one class and one class is
    true, so the three values are equal.

    Returns:
        `instance_precision`, `instance_recall` and `instance_f1`.
    """
    predicted, true, right = (np.zeros(len(next(iter(y_true.values())))) for _ in range(3))
    for head, truth in y_true.items():
        answers = _find_answers(truth, y_prob[head])
        predicted += answers.sum(axis=1)
        true += truth.sum(axis=1)
        right += (answers * truth).sum(axis=1)
    rows = {
        "instance_precision": _divide(right, predicted),
        "instance_recall": _divide(right, true),
        "instance_f1": _divide(2 * right, predicted + true),
    }
    return {name: _mean_over_rows(values, weights) for name, values in rows.items()}


def cross_entropy(
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    weights: Floats | None = None,
) -> Floats:
    """Mean categorical cross-entropy of one head over its labelled rows, in nats."""
    probabilities = np.clip(y_prob.astype(np.float64), SMALLEST_PROBABILITY, 1)
    losses = -(y_true * np.log(probabilities)).sum(axis=1)
    return _mean_over_rows(np.where(y_true.any(axis=1), losses, np.nan), weights)


def sum_up(y_true: OneHot, y_prob: OneHot) -> dict[str, float]:
    """Returns `loss`, the sum of the heads' cross-entropies, `mean_accuracy` and `rows`."""
    accuracies = [accuracy(y_true[head], y_prob[head]) for head in y_true]
    losses = [cross_entropy(y_true[head], y_prob[head]) for head in y_true]
    return {
        "loss": float(np.nansum(losses)),
        "mean_accuracy": float(np.nanmean(accuracies)),
        "rows": len(next(iter(y_true.values()))),
    }


def prior_loss(y_true: npt.NDArray[np.float32], y_train: npt.NDArray[np.float32]) -> float:
    """Cross-entropy of predicting the class prior, the class shares of the training rows."""
    shares = y_train[y_train.any(axis=1)].mean(axis=0)
    return float(cross_entropy(y_true, np.broadcast_to(shares, y_true.shape)))


def majority_accuracy(y_true: npt.NDArray[np.float32], y_train: npt.NDArray[np.float32]) -> float:
    """Accuracy of predicting the most frequent class of the training rows."""
    majority = y_train.sum(axis=0).argmax()
    return float(y_true[y_true.any(axis=1), majority].mean())


def _find_answers(y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32]) -> Floats:
    """Returns the predicted classes as one-hot rows, (n, classes); zeros for unlabelled rows."""
    answers: Floats = np.eye(y_true.shape[1])[y_prob.argmax(axis=1)]
    return answers * y_true.any(axis=1, keepdims=True)


def _divide(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> Floats:
    """Divides; returns NaN for a zero denominator, without a warning."""
    divisor = np.where(denominator == 0, np.nan, denominator)
    return np.asarray(numerator / divisor, np.float64)


def mean_of_known(values: Floats) -> Floats:
    """Mean over the last axis, ignoring NaN."""
    is_known = ~np.isnan(values)
    return _divide(np.where(is_known, values, 0).sum(axis=-1), is_known.sum(axis=-1))


def _mean_over_rows(values: Floats, weights: Floats | None) -> Floats:
    """Weighted mean over rows, ignoring NaN."""
    weights = np.ones(len(values)) if weights is None else weights
    is_known = ~np.isnan(values)
    return _divide(weights @ np.where(is_known, values, 0), weights @ is_known.astype(np.float64))
