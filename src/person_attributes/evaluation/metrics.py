"""Metrics as pure functions of arrays.

`weights`, (..., n), is how often each row counts; every row counts once by default. Bootstrap
counts of shape (samples, n) return one value per sample.
"""

from collections.abc import Mapping
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


def count_confusions(
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    weights: Floats | None = None,
) -> Floats:
    """Counts (true class, predicted class) pairs: (..., classes, classes)."""
    weights = np.ones(len(y_true)) if weights is None else weights
    classes = y_true.shape[1]
    pairs = y_true.argmax(axis=1) * classes + y_prob.argmax(axis=1)
    cells = np.eye(classes**2)[pairs] * (y_true.max(axis=1) > 0)[:, None]
    counts: Floats = (weights @ cells).reshape(*weights.shape[:-1], classes, classes)
    return counts


def accuracy(confusions: Floats) -> Floats:
    """Fraction of correct rows; NaN if no row has a label."""
    right = np.trace(confusions, axis1=-2, axis2=-1)
    return _divide(right, confusions.sum(axis=(-2, -1)))


def recalls(confusions: Floats) -> Floats:
    """Recall of each class, (..., classes); NaN for a class without rows."""
    return _divide(_diagonal(confusions), confusions.sum(axis=-1))


def precisions(confusions: Floats) -> Floats:
    """Precision of each class, (..., classes); NaN for a class that is never predicted."""
    return _divide(_diagonal(confusions), confusions.sum(axis=-2))


def f1_scores(confusions: Floats) -> Floats:
    """F1 of each class, (..., classes); NaN for a class without rows or predictions."""
    both = confusions.sum(axis=-1) + confusions.sum(axis=-2)
    return _divide(2 * _diagonal(confusions), both)


def balanced_accuracy(confusions: Floats) -> Floats:
    """Mean recall of the classes that have rows."""
    return mean_of_known(recalls(confusions))


def macro_f1(confusions: Floats) -> Floats:
    """Mean F1 of the classes that have rows or predictions."""
    return mean_of_known(f1_scores(confusions))


def mean_attribute_accuracy(confusions: Mapping[str, Floats]) -> Floats:
    """Computes the mA of the pedestrian attribute literature over all one-hot columns.

    mA is the mean over columns of (true positive rate + true negative rate) / 2: Deng et al.,
    Pedestrian Attribute Recognition At Far Distance, 2014; Li et al., A Richly Annotated Dataset
    for Pedestrian Attribute Recognition, 2016.
    """
    columns = []
    for counts in confusions.values():
        positives, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
        negatives = counts.sum(axis=(-2, -1))[..., None] - positives
        true_negatives = negatives - predicted + _diagonal(counts)
        columns.append((recalls(counts) + _divide(true_negatives, negatives)) / 2)
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
        is_labelled = truth.max(axis=1) > 0
        answer = np.eye(truth.shape[1])[y_prob[head].argmax(axis=1)] * is_labelled[:, None]
        predicted += answer.sum(axis=1)
        true += truth.sum(axis=1)
        right += (answer * truth).sum(axis=1)
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
    accuracies = [accuracy(count_confusions(y_true[head], y_prob[head])) for head in y_true]
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


def _diagonal(confusions: Floats) -> Floats:
    return np.diagonal(confusions, axis1=-2, axis2=-1)


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
