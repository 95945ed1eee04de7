"""Expected calibration error (ECE): how far confidences are from accuracies.

Rows are sorted by confidence, the probability of the predicted class, into bins with equal numbers
of rows. The ECE is the root of the mean over bins of the squared difference between accuracy and
confidence. The plain mean is too high, because accuracies of few rows vary. The estimator here
subtracts this bias: Kumar et al., Verified Uncertainty Calibration, 2019; in the form of Sun et
al., A Confidence Interval for the l2 Expected Calibration Error, 2024.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from person_attributes.config import EvaluationParams
from person_attributes.evaluation.bootstrap import split_samples
from person_attributes.evaluation.metrics import Estimate, Floats


@dataclass(frozen=True)
class _Binned:
    """Labelled rows in ascending order of confidence.

    Attributes:
        confidences: Probability of the predicted class of each row.
        is_right: Whether the predicted class of each row is correct.
        starts: Position of the first row of each bin.
        sizes: Number of rows of each bin, at least two.
    """

    confidences: Floats
    is_right: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.intp]
    sizes: npt.NDArray[np.intp]

    def sum_bins(self, values: Floats) -> Floats:
        """Sums over the rows of each bin: (..., rows) to (..., bins)."""
        sums: Floats = np.add.reduceat(values, self.starts, axis=-1)
        return sums

    def square_gaps(self, is_right: npt.NDArray[np.bool_]) -> Floats:
        """Estimates the squared gap of each bin without bias: (..., rows) to (..., bins).

        This is the mean of the products of the gaps of two different rows.
        """
        gaps = is_right - self.confidences
        return (self.sum_bins(gaps) ** 2 - self.sum_bins(gaps**2)) / (self.sizes * (self.sizes - 1))

    def average(self, values: Floats) -> Floats:
        """Averages over the bins, each with its share of the rows."""
        mean: Floats = values @ (self.sizes / self.sizes.sum())
        return mean


def bin_rows(confidences: Floats, bins: int) -> list[npt.NDArray[np.intp]]:
    """Returns the positions of the rows of each bin; a bin has two rows at least."""
    order = np.argsort(confidences, kind="stable")
    return np.array_split(order, max(1, min(bins, len(order) // 2)))


def calibration_error(
    y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32], bins: int
) -> float:
    """Returns the debiased ECE of one head; NaN without labels, 0 with one labelled row."""
    labelled = y_true.any(axis=1)
    if labelled.sum() < 2:
        return 0.0 if labelled.any() else np.nan
    binned = _bin(y_true[labelled], y_prob[labelled], bins)
    return _root(float(binned.average(binned.square_gaps(binned.is_right))))


def estimate_calibration_error(
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    params: EvaluationParams,
) -> Estimate:
    """Estimates the ECE of one head with its interval.

    The estimate of the squared ECE is normally distributed in large samples, with one variance if
    the network is calibrated and another one if it is not (Sun et al. 2024). The lower end is 0
    unless the first distribution makes the estimate implausible. A single labelled row shows
    nothing: its interval is 0 to 1.
    """
    from scipy.stats import norm

    labelled = y_true.any(axis=1)
    error = calibration_error(y_true, y_prob, params.calibration_bins)
    if labelled.sum() < 2:
        return error, error, error + 1
    binned = _bin(y_true[labelled], y_prob[labelled], params.calibration_bins)
    squares = binned.square_gaps(binned.is_right)
    square, quantile = float(binned.average(squares)), float(norm.ppf((1 + params.confidence) / 2))
    gaps = binned.is_right - binned.confidences
    noise = binned.sum_bins(gaps**2) / binned.sizes - (binned.sum_bins(gaps) / binned.sizes) ** 2
    deviation = _deviate(binned, noise * binned.sizes / (binned.sizes - 1), np.maximum(squares, 0))
    null_noise = binned.sum_bins(binned.confidences * (1 - binned.confidences)) / binned.sizes
    null_deviation = _deviate(binned, null_noise, np.zeros(len(squares)))
    low = square - quantile * deviation if square > quantile * null_deviation else 0.0
    high = square + quantile * max(deviation, null_deviation)
    return error, min(_root(low), error), min(_root(high), 1.0)


def simulate_calibrated(
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    params: EvaluationParams,
    random: np.random.Generator,
) -> Floats:
    """Draws the ECEs that a perfectly calibrated network with these confidences would show.

    They are above 0 on average, since an ECE cannot be negative. A row is right with the
    probability that the network states: consistency resampling, Bröcker and Smith, Increasing the
    Reliability of Reliability Diagrams, 2007.

    Returns:
        One ECE per bootstrap sample.
    """
    labelled = y_true.any(axis=1)
    rows = int(labelled.sum())
    if rows < 2:
        error = calibration_error(y_true, y_prob, params.calibration_bins)
        return np.full(params.bootstrap_samples, error)
    binned = _bin(y_true[labelled], y_prob[labelled], params.calibration_bins)
    squares = [
        binned.average(binned.square_gaps(random.random((count, rows)) < binned.confidences))
        for count in split_samples(params.bootstrap_samples, rows)
    ]
    return np.sqrt(np.maximum(np.concatenate(squares), 0))


def _bin(y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32], bins: int) -> _Binned:
    confidences = y_prob.max(axis=1).astype(np.float64)
    positions = bin_rows(confidences, bins)
    order, sizes = np.concatenate(positions), np.array([len(each) for each in positions])
    is_right = y_true.argmax(axis=1) == y_prob.argmax(axis=1)
    return _Binned(confidences[order], is_right[order], np.cumsum(sizes) - sizes, sizes)


def _deviate(binned: _Binned, noise: Floats, squares: Floats) -> float:
    """Computes the standard deviation of the squared ECE: Hoeffding 1948, for U-statistics.

    Args:
        binned: The rows.
        noise: Variance of the gap of a row, for each bin.
        squares: Squared mean gap of each bin.
    """
    sizes = binned.sizes
    variances = 4 * squares * noise / sizes + 2 * noise**2 / (sizes * (sizes - 1))
    return float(np.sqrt((sizes / sizes.sum()) ** 2 @ variances))


def _root(square: float) -> float:
    return float(np.sqrt(max(square, 0.0)))
