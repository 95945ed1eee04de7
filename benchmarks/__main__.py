"""Runs benchmarks: `python -m benchmarks`, or with the names of some."""

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
"""Half an hour each: only where they are named."""


def main(names: list[str]) -> int:
    """Prints a line for each comparison; 1 where a goal was missed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    unknown = sorted(set(names) - {*NAMES, *LONG_NAMES})
    if unknown:
        print(f"unknown: {', '.join(unknown)}. Expected some of {', '.join(NAMES + LONG_NAMES)}.")
        return 2
    print(f"{'':<58} {'ours':>10} {'rival':>10} {'':<9} {'ratio':>7}")
    is_good = True
    for name in names or NAMES:
        for figure in importlib.import_module(f"benchmarks.{name}").measure():
            print(figure, flush=True)
            is_good &= figure.goal is None or figure.ratio >= figure.goal
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
