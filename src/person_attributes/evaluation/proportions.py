"""Intervals and tests of proportions, such as accuracies of independent rows."""

import numpy as np

from person_attributes.evaluation.metrics import Estimate, Floats


def estimate_proportion(successes: int, rows: int, confidence: float) -> Estimate:
    """Returns a proportion with its interval (Wilson 1927); NaN without rows.

    The interval has a width even if all rows are successes.
    """
    from scipy.stats import binomtest

    if not rows:
        return np.nan, np.nan, np.nan
    interval = binomtest(successes, rows).proportion_ci(confidence, method="wilson")
    share = successes / rows
    # Rounding can put the ends of the interval beyond 0 and 1.
    return share, float(min(interval.low, share)), float(max(interval.high, share))


def subtract_proportions(first: Estimate, second: Estimate) -> Estimate:
    """Returns the first proportion minus the second one, with its interval.

    The interval is the hybrid score interval of Newcombe, Interval Estimation for the Difference
    Between Independent Proportions, 1998 (method 10).
    """
    (share, low, high), (other, other_low, other_high) = first, second
    difference = share - other
    return (
        difference,
        difference - float(np.hypot(share - low, other_high - other)),
        difference + float(np.hypot(high - share, other - other_low)),
    )


def compare_proportions(successes: tuple[int, int], rows: tuple[int, int]) -> float:
    """Returns the p-value of Fisher's exact test that two proportions are equal."""
    from scipy.stats import fisher_exact

    failures = [count - right for count, right in zip(rows, successes, strict=True)]
    return float(fisher_exact([successes, failures]).pvalue)


def correct_by_holm(p_values: Floats) -> Floats:
    """Corrects p-values so that any false finding is rare (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    corrected = np.empty_like(scaled)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected


def correct_by_benjamini_hochberg(p_values: Floats) -> Floats:
    """Corrects p-values so that few of the findings are false (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(p_values) if len(p_values) else p_values, np.float64)
