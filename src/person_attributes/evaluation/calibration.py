"""Temperature scaling: Guo et al., On Calibration of Modern Neural Networks, 2017.

Each head's logits are divided by one temperature. A class predicted with probability 0.8 is then
correct in about 80 % of cases. The predicted classes and the accuracy do not change.
"""

import numpy as np
import numpy.typing as npt

from person_attributes.evaluation.metrics import SMALLEST_PROBABILITY, OneHot, cross_entropy

_LOG_BOUNDS = (-3.0, 3.0)
"""Natural logarithms of the lowest and the highest temperature, about 0.05 and 20."""


def fit_temperatures(y_true: OneHot, y_prob: OneHot) -> dict[str, float]:
    """Fits the maximum-likelihood temperature of each head; 1 for a head without labels."""
    return {head: _fit(truth, y_prob[head]) for head, truth in y_true.items()}


def _fit(y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32]) -> float:
    from scipy.optimize import minimize_scalar

    if not y_true.any():
        return 1.0
    found = minimize_scalar(
        lambda log: float(cross_entropy(y_true, scale(y_prob, float(np.exp(log))))),
        bounds=_LOG_BOUNDS,
        method="bounded",
    )
    return float(np.exp(found.x))


def scale(y_prob: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float32]:
    """Scales the probabilities of one head, (n, classes), with a temperature."""
    logits = np.log(np.maximum(y_prob.astype(np.float64), SMALLEST_PROBABILITY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: npt.NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(
        np.float32
    )
    return scaled


def scale_heads(
    y_prob: OneHot, temperatures: dict[str, float]
) -> dict[str, npt.NDArray[np.float32]]:
    """Scales the probabilities of every head with its temperature."""
    return {head: scale(answers, temperatures[head]) for head, answers in y_prob.items()}


def cross_fit(
    y_true: OneHot, y_prob: OneHot, folds: int, seed: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Scales every row with temperatures fitted on the other folds.

    Args:
        y_true: One-hot labels of rows that were not used for training.
        y_prob: Predicted probabilities of the same rows.
        folds: Number of folds.
        seed: Random seed of the assignment to folds.

    Returns:
        The scaled probabilities, in the order of the rows.
    """
    rows = len(next(iter(y_true.values())))
    fold_of_row = np.random.default_rng(seed).permutation(np.arange(rows) % folds)
    scaled = {head: np.empty_like(answers) for head, answers in y_prob.items()}
    for fold in range(min(folds, rows)):
        inside = fold_of_row == fold
        temperatures = fit_temperatures(
            {head: truth[~inside] for head, truth in y_true.items()},
            {head: answers[~inside] for head, answers in y_prob.items()},
        )
        for head, temperature in temperatures.items():
            scaled[head][inside] = scale(y_prob[head][inside], temperature)
    return scaled
