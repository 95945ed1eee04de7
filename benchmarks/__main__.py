"""Runs benchmarks: `python -m benchmarks [NAME...]`."""

import importlib
import os
import sys

NAMES = (
    "data_path",
    "feeding",
    "frozen_phase",
    "startup",
    "phases",
    "memory",
    "precision",
    "ingest",
    "serving",
    "devices",
)

LONG_NAMES = ("bulk_scoring", "growth")
"""Long benchmarks, which run only if they are named; `growth` takes hours."""


def main(names: list[str]) -> int:
    """Prints a line for each comparison.

    Returns:
        Exit code 0 if all goals are reached, 1 if one is missed, 2 for an unknown name.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    unknown = sorted(set(names) - {*NAMES, *LONG_NAMES})
    if unknown:
        print(f"unknown: {', '.join(unknown)}. Expected names of {', '.join(NAMES + LONG_NAMES)}.")
        return 2
    print(f"{'':<58} {'ours':>10} {'rival':>10} {'':<9} {'ratio':>7}")
    goals_reached = True
    for name in names or NAMES:
        for comparison in importlib.import_module(f"benchmarks.{name}").measure():
            print(comparison, flush=True)
            goals_reached &= comparison.goal is None or comparison.ratio >= comparison.goal
    return 0 if goals_reached else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
