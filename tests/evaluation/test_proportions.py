import numpy as np
import pytest
from scipy.stats import binom

from person_attributes.evaluation.proportions import (
    correct_by_holm,
    estimate_proportion,
    subtract_proportions,
)


def test_the_interval_equals_the_formula_of_wilson() -> None:
    share, low, high = estimate_proportion(45, 60, 0.95)
    z, rows = 1.959964, 60
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    width = z * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2)) / (1 + z**2 / rows)
    assert (low, high) == pytest.approx((centre - width, centre + width), abs=1e-6)


def test_an_accuracy_of_one_has_an_interval() -> None:
    share, low, high = estimate_proportion(209, 209, 0.95)
    assert (share, high) == (1, 1)
    assert low == pytest.approx(1 / (1 + 1.959964**2 / 209), abs=1e-6)
    assert np.isnan(estimate_proportion(0, 0, 0.95)).all()


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("rows", [60, 209])
def test_the_interval_covers_the_true_proportion(share: float, rows: int) -> None:
    """The exact coverage: the probability of the counts whose interval has the true proportion."""
    counts = np.arange(rows + 1)
    intervals = [estimate_proportion(int(count), rows, 0.95) for count in counts]
    inside = [low <= share <= high for _, low, high in intervals]
    assert binom.pmf(counts[inside], rows, share).sum() == pytest.approx(0.95, abs=0.03)


def test_the_difference_equals_the_published_example_of_newcombe() -> None:
    """Table II of Newcombe 1998, method 10: 56/70 and 48/80."""
    first, second = estimate_proportion(56, 70, 0.95), estimate_proportion(48, 80, 0.95)
    expected = (0.2, 0.0524, 0.3339)
    assert subtract_proportions(first, second) == pytest.approx(expected, abs=5e-5)


def test_holm_equals_a_manual_calculation() -> None:
    corrected = correct_by_holm(np.array([0.01, 0.04, 0.03]))
    assert corrected.tolist() == pytest.approx([0.03, 0.06, 0.06])
