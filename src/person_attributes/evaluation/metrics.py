"""Formulas: arrays in, numbers out; nothing here knows files, models or MLflow.

Formulas take weights, (..., n): how often each row counts, once where none are given. With
(samples, n) rows drawn with replacement they give as many figures at once, for an interval.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

SMALLEST_PROBABILITY = 1e-7
"""Keras' own clip, so that its losses and ours agree."""

Floats = npt.NDArray[np.float64]

OneHot = Mapping[str, npt.NDArray[np.float32]]
"""`{head: (n, classes)}` of zeros and ones, or of probabilities; true rows of zeros alone have no
label of that head, and count nowhere."""


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
    """Share of rows that are right; not a number where no row has a label."""
    right = np.trace(confusions, axis1=-2, axis2=-1)
    return _divide(right, confusions.sum(axis=(-2, -1)))


def recalls(confusions: Floats) -> Floats:
    """Of each class's rows the share that is found, (..., classes)."""
    return _divide(_diagonal(confusions), confusions.sum(axis=-1))


def precisions(confusions: Floats) -> Floats:
    """Of the rows that are said to be of a class the share that is, (..., classes)."""
    return _divide(_diagonal(confusions), confusions.sum(axis=-2))


def f1_scores(confusions: Floats) -> Floats:
    """F1 of each class, (..., classes); not a number of one neither there nor predicted."""
    both = confusions.sum(axis=-1) + confusions.sum(axis=-2)
    return _divide(2 * _diagonal(confusions), both)


def balanced_accuracy(confusions: Floats) -> Floats:
    """Mean recall of the classes that are there."""
    return _mean_of_known(recalls(confusions))


def macro_f1(confusions: Floats) -> Floats:
    """Mean F1 of the classes that are there or predicted."""
    return _mean_of_known(f1_scores(confusions))


def mean_attribute_accuracy(confusions: Mapping[str, Floats]) -> Floats:
    """The mA of papers on pedestrian attributes, over all one-hot columns of all heads.

    Of each column, the mean of how many of its ones and how many of its zeros are right: Deng et
    al., Pedestrian Attribute Recognition At Far Distance, 2014; Li et al., A Richly Annotated
    Dataset for Pedestrian Attribute Recognition, 2016.
    """
    columns = []
    for counts in confusions.values():
        ones, said = counts.sum(axis=-1), counts.sum(axis=-2)
        zeros = counts.sum(axis=(-2, -1))[..., None] - ones
        right_zeros = zeros - said + _diagonal(counts)
        columns.append((recalls(counts) + _divide(right_zeros, zeros)) / 2)
    return _mean_of_known(np.concatenate(columns, axis=-1))


def instance_scores(
    y_true: OneHot, y_prob: OneHot, weights: Floats | None = None
) -> dict[str, Floats]:
    """Precision, recall and F1 of each row over all one-hot columns, then the mean over rows.

    As Li et al. 2016 define them beside the mA. A head says one class, of one that is true:
    where all that are said are scored, the three are one number.

    Returns:
        `instance_precision`, `instance_recall` and `instance_f1`.
    """
    said, true, right = (np.zeros(len(next(iter(y_true.values())))) for _ in range(3))
    for head, truth in y_true.items():
        is_labelled = truth.max(axis=1) > 0
        answer = np.eye(truth.shape[1])[y_prob[head].argmax(axis=1)] * is_labelled[:, None]
        said += answer.sum(axis=1)
        true += truth.sum(axis=1)
        right += (answer * truth).sum(axis=1)
    rows = {
        "instance_precision": _divide(right, said),
        "instance_recall": _divide(right, true),
        "instance_f1": _divide(2 * right, said + true),
    }
    return {name: _mean_over_rows(values, weights) for name, values in rows.items()}


def cross_entropy(
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    weights: Floats | None = None,
) -> Floats:
    """Mean categorical cross-entropy of one head over its labels, in nats."""
    probabilities = np.clip(y_prob.astype(np.float64), SMALLEST_PROBABILITY, 1)
    losses = -(y_true * np.log(probabilities)).sum(axis=1)
    return _mean_over_rows(np.where(y_true.any(axis=1), losses, np.nan), weights)


def calibration_error(
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    bins: int,
    weights: Floats | None = None,
) -> Floats:
    """Expected calibration error: how far certainty and accuracy lie apart, in the mean.

    Rows are put into bins of equal width by the probability of the class that is said: Guo et al.,
    On Calibration of Modern Neural Networks, 2017.
    """
    weights = np.ones(len(y_true)) if weights is None else weights
    is_labelled = y_true.any(axis=1)
    is_right = y_true.argmax(axis=1) == y_prob.argmax(axis=1)
    gaps = np.where(is_labelled, is_right - y_prob.max(axis=1).astype(np.float64), 0)
    members = np.eye(bins)[find_bins(y_prob, bins)]
    apart = np.abs(weights @ (gaps[:, None] * members)).sum(axis=-1)
    return _divide(apart, weights @ is_labelled.astype(np.float64))


def sum_up(y_true: OneHot, y_prob: OneHot) -> dict[str, float]:
    """Gives `loss`, the sum of the heads' cross-entropies, `mean_accuracy` and `rows`."""
    accuracies = [accuracy(count_confusions(y_true[head], y_prob[head])) for head in y_true]
    losses = [cross_entropy(y_true[head], y_prob[head]) for head in y_true]
    return {
        "loss": float(np.nansum(losses)),
        "mean_accuracy": float(np.nanmean(accuracies)),
        "rows": len(next(iter(y_true.values()))),
    }


def find_bins(y_prob: npt.NDArray[np.float32], bins: int) -> npt.NDArray[np.intp]:
    """Gives the bin of each row's certainty; a bin holds its upper end, not its lower one."""
    numbers = np.ceil(y_prob.max(axis=1).astype(np.float64) * bins).astype(np.intp) - 1
    clipped: npt.NDArray[np.intp] = np.clip(numbers, 0, bins - 1)
    return clipped


def prior_loss(y_true: npt.NDArray[np.float32], y_train: npt.NDArray[np.float32]) -> float:
    """Cross-entropy of always saying the class shares of the training rows."""
    shares = y_train[y_train.any(axis=1)].mean(axis=0)
    return float(cross_entropy(y_true, np.broadcast_to(shares, y_true.shape)))


def majority_accuracy(y_true: npt.NDArray[np.float32], y_train: npt.NDArray[np.float32]) -> float:
    """Accuracy of always saying the commonest class of the training rows."""
    commonest = y_train.sum(axis=0).argmax()
    return float(y_true[y_true.any(axis=1), commonest].mean())


def _diagonal(confusions: Floats) -> Floats:
    return np.diagonal(confusions, axis1=-2, axis2=-1)


def _divide(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any]) -> Floats:
    """Divides; nothing by nothing is not a number, without a warning."""
    divisor = np.where(denominator == 0, np.nan, denominator)
    return np.asarray(numerator / divisor, np.float64)


def _mean_of_known(values: Floats) -> Floats:
    """Mean over the last axis of what is a number."""
    is_known = ~np.isnan(values)
    return _divide(np.where(is_known, values, 0).sum(axis=-1), is_known.sum(axis=-1))


def _mean_over_rows(values: Floats, weights: Floats | None) -> Floats:
    """Weighted mean over rows of what is a number."""
    weights = np.ones(len(values)) if weights is None else weights
    is_known = ~np.isnan(values)
    return _divide(weights @ np.where(is_known, values, 0), weights @ is_known.astype(np.float64))
