"""Bootstrap intervals: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from person_attributes.config import EvaluationParams
from person_attributes.evaluation.metrics import Estimate, Floats

Key = TypeVar("Key")

_CELLS_AT_ONCE = 20_000_000
"""Maximum number of samples times rows in memory at once."""


def bootstrap(
    compute: Callable[[Floats], Mapping[Key, Floats]],
    rows: int,
    params: EvaluationParams,
    seed: int,
) -> dict[Key, Estimate]:
    """Computes metrics and their percentile intervals.

    Each bootstrap sample draws the same rows for all metrics, because errors on one image are
    correlated. A sample without labels for a metric is ignored for that metric.

    Args:
        compute: Returns metrics for weights of shape (..., rows).
        rows: Number of rows.
        params: Confidence level and number of bootstrap samples.
        seed: Random seed of the bootstrap.
    """
    random = np.random.default_rng(seed)
    values = compute(np.ones(rows))
    samples: dict[Key, list[Floats]] = {key: [] for key in values}
    for count in split_samples(params.bootstrap_samples, rows):
        weights = random.multinomial(rows, np.full(rows, 1 / rows), count).astype(np.float64)
        for key, sampled in compute(weights).items():
            samples[key].append(sampled)
    tails = [(1 - params.confidence) / 2, (1 + params.confidence) / 2]
    return {
        key: (float(values[key]), *_find_quantiles(np.concatenate(sampled), tails))
        for key, sampled in samples.items()
    }


def split_samples(samples: int, rows: int) -> Iterator[int]:
    """Yields numbers of samples that fit into memory at once; they sum to `samples`."""
    size = max(1, _CELLS_AT_ONCE // rows)
    for begin in range(0, samples, size):
        yield min(size, samples - begin)


def _find_quantiles(samples: Floats, tails: Sequence[float]) -> tuple[float, float]:
    known = samples[~np.isnan(samples)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, tails)
    return float(low), float(high)
