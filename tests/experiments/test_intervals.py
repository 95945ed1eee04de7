from collections.abc import Callable, Iterator

import pytest
from experiments import intervals

from person_attributes.config import Params


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (intervals.table_expected, "calibrated, 60 rows: ECE 0."),
        (intervals.table_gate, "gate, 60 rows: "),
        (intervals.table_coverage, "| overconfident, 2.5 | 60 | 0.1"),
        (intervals.table_slices, "slices, 60 rows: "),
    ],
)
def test_a_small_simulation_runs(
    table: Callable[[Params], Iterator[str]],
    expected: str,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = {"_ROWS": (60,), "_NETWORKS": 3, "_EVALUATIONS": 1, "_MANY_ROWS": 1000}
    for name, value in small.items():
        monkeypatch.setattr(intervals, name, value)
    assert any(line.startswith(expected) for line in table(params))
