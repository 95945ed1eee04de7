"""Simulates how often intervals and tests of the evaluation are wrong, beside simpler methods.

    python -m experiments.intervals                    # tables for docs/evaluation.md

The networks are simulated, so that their true calibration error is known. The simpler methods are
the plain calibration error (Guo et al. 2017) with a bootstrap interval, and an uncorrected
bootstrap interval of the difference of a slice.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from person_attributes.config import EvaluationParams, Params, read_params
from person_attributes.evaluation import metrics
from person_attributes.evaluation.bootstrap import bootstrap
from person_attributes.evaluation.calibration_error import (
    calibration_error,
    estimate_calibration_error,
    simulate_calibrated,
)
from person_attributes.evaluation.metrics import Estimate, Floats
from person_attributes.evaluation.slices import find_unlike_slices, score_slices

_ROOT = Path(__file__).parent.parent
_ROWS = (209, 939)
_NETWORKS, _EVALUATIONS = 1000, 200
_MANY_ROWS = 1_000_000
_TEMPERATURES = {"calibrated": 1.0, "overconfident, 1.5": 1.5, "overconfident, 2.5": 2.5}
_CLASSES = {head: [f"{head}{number}" for number in range(4)] for head in "abcdefgh"}
_Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def draw_network(
    rows: int, temperature: float, random: np.random.Generator
) -> tuple[_Arrays, float]:
    """Draws labels and predictions of one head with two classes, and its true calibration error.

    Args:
        rows: Number of rows.
        temperature: The factor by which the logits are too large.
        random: The source of randomness.
    """
    confidences = 0.5 + 0.5 * random.beta(2, 1, rows)
    exact = 1 / (1 + (1 / confidences - 1) ** (1 / temperature))
    y_prob = np.stack([confidences, 1 - confidences], axis=1).astype(np.float32)
    y_true = np.eye(2, dtype=np.float32)[(random.random(rows) >= exact).astype(int)]
    return (y_true, y_prob), float(np.sqrt(np.mean((exact - confidences) ** 2)))


def plain_error(
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    bins: int,
    weights: Floats | None = None,
) -> Floats:
    """Computes the plain calibration error: the mean absolute gap over bins of equal width."""
    weights = np.ones(len(y_true)) if weights is None else weights
    confidences = y_prob.max(axis=1).astype(np.float64)
    gaps = (y_true.argmax(axis=1) == y_prob.argmax(axis=1)) - confidences
    members = np.eye(bins)[np.minimum((confidences * bins).astype(int), bins - 1)]
    error: Floats = np.abs(weights @ (gaps[:, None] * members)).sum(axis=-1) / len(gaps)
    return error


def estimate_plain_error(arrays: _Arrays, params: EvaluationParams, seed: int) -> Estimate:
    """Estimates the plain calibration error with a bootstrap interval."""

    def compute(weights: Floats) -> dict[str, Floats]:
        return {"ece": plain_error(*arrays, params.calibration_bins, weights)}

    return bootstrap(compute, len(arrays[0]), params, seed)["ece"]


def compute_plain_truth(temperature: float, bins: int, random: np.random.Generator) -> float:
    """Computes the plain calibration error on so many rows that noise does not matter."""
    arrays, _ = draw_network(_MANY_ROWS, temperature, random)
    return 0.0 if temperature == 1 else float(plain_error(*arrays, bins))


def table_coverage(params: Params) -> Iterator[str]:
    """Yields how many intervals of the calibration error contain its true value."""
    section = params.evaluation
    yield (
        f"| {_NETWORKS} networks each | rows | true ECE | mean estimate | intervals with the true "
        "value | plain ECE: mean estimate | intervals with the true value |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for name, temperature in _TEMPERATURES.items():
        random = np.random.default_rng(0)
        plain_truth = compute_plain_truth(temperature, section.calibration_bins, random)
        for rows in _ROWS:
            found, truths, covered, plain = [], [], 0, []
            for seed in range(_NETWORKS):
                arrays, truth = draw_network(rows, temperature, random)
                value, low, high = estimate_calibration_error(*arrays, section)
                found.append(value)
                truths.append(truth)
                covered += low <= truth <= high
                plain.append(estimate_plain_error(arrays, section, seed))
            plain_covered = sum(low <= plain_truth <= high for _, low, high in plain)
            yield (
                f"| {name} | {rows} | {np.mean(truths):.3f} | {np.mean(found):.3f} | {covered} "
                f"| {np.mean([value for value, _, _ in plain]):.3f} | {plain_covered} |"
            )


def table_expected(params: Params) -> Iterator[str]:
    """Yields the mean ECE of calibrated networks, and the one that the evaluation states."""
    section = params.evaluation
    for rows in _ROWS:
        random = np.random.default_rng(1)
        drawn = [draw_network(rows, 1.0, random)[0] for _ in range(_NETWORKS)]
        shown = np.mean([calibration_error(*each, section.calibration_bins) for each in drawn])
        stated = [simulate_calibrated(*each, section, random).mean() for each in drawn[:50]]
        yield f"calibrated, {rows} rows: ECE {shown:.4f}, stated {np.mean(stated):.4f}"


def table_gate(params: Params) -> Iterator[str]:
    """Yields how often the gate refuses a network that is as calibrated as the champion."""
    small = params.evaluation.model_copy(update={"bootstrap_samples": 200})
    limit = params.registry.gate.max_calibration_increase
    for rows in _ROWS:
        random, refused, plain = np.random.default_rng(2), 0, 0
        for _ in range(_NETWORKS):
            before, after = ([draw_network(rows, 1.0, random)[0] for _ in _CLASSES] for _ in "12")
            drawn = [simulate_calibrated(*each, small, random) for each in after]
            highest = float(np.quantile(np.mean(drawn, axis=0), small.confidence))
            debiased = [_average(calibration_error, heads, small) for heads in (before, after)]
            refused += debiased[1] - max(debiased[0], highest) > limit
            simple = [_average(plain_error, heads, small) for heads in (before, after)]
            plain += simple[1] - simple[0] > limit
        yield f"gate, {rows} rows: {refused} of {_NETWORKS} refused; by plain ECEs: {plain}"


def _average(
    measure: Callable[..., Any], heads: Sequence[_Arrays], params: EvaluationParams
) -> float:
    return float(np.mean([measure(*each, params.calibration_bins) for each in heads]))


def table_slices(params: Params) -> Iterator[str]:
    """Yields how many slices that do not differ are selected, with eight independent heads."""
    section = params.evaluation
    for rows in _ROWS:
        random = np.random.default_rng(3)
        tested = flagged = evaluations = plain = 0
        for seed in range(_EVALUATIONS):
            shares = (0.55, 0.25, 0.15, 0.05)
            y_true = {
                head: np.eye(4, dtype=np.float32)[random.choice(4, rows, p=shares)]
                for head in _CLASSES
            }
            y_prob = {
                head: np.where(random.random((rows, 1)) < 0.8, truth, np.roll(truth, 1, axis=1))
                for head, truth in y_true.items()
            }
            few = section.model_copy(update={"bootstrap_samples": 1})
            slices = score_slices(y_true, y_prob, _CLASSES, few, seed)
            is_tested = ~slices["too_small"]
            found = len(find_unlike_slices(slices, section.confidence))
            tested += int(is_tested.sum())
            flagged += found
            evaluations += found > 0
            plain += _count_plain(y_true, y_prob, section, seed)
        yield (
            f"slices, {rows} rows: {flagged} of {tested} selected, in {evaluations} of "
            f"{_EVALUATIONS} evaluations; by uncorrected bootstrap intervals: {plain}"
        )


def _count_plain(
    y_true: metrics.OneHot, y_prob: metrics.OneHot, params: EvaluationParams, seed: int
) -> int:
    """Counts slices, large enough, whose bootstrap interval of the difference excludes zero."""
    differing = 0
    random = np.random.default_rng(seed)
    rows = len(next(iter(y_true.values())))
    weights = random.multinomial(rows, np.full(rows, 1 / rows), params.bootstrap_samples)
    tails = [(1 - params.confidence) / 2, (1 + params.confidence) / 2]
    for head, truth in y_true.items():
        right = truth.argmax(axis=1) == y_prob[head].argmax(axis=1)
        members = np.concatenate([y_true[other] for other in y_true if other != head], axis=1) > 0
        sizes = members.sum(axis=0)
        members = members[:, np.minimum(sizes, rows - sizes) >= params.min_slice_rows]
        inside = (weights @ (right[:, None] * members)) / (weights @ members)
        outside = (weights @ (right[:, None] * ~members)) / (weights @ ~members)
        low, high = np.quantile(inside - outside, tails, axis=0)
        differing += int(((low > 0) | (high < 0)).sum())
    return differing


def main() -> None:
    """Prints all tables."""
    params = read_params(_ROOT / "params.yaml")
    for table in (table_expected, table_gate, table_coverage, table_slices):
        for line in table(params):
            print(line, flush=True)


if __name__ == "__main__":
    main()
