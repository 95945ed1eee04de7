"""The result of a benchmark, and functions that measure it."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """A value of this project beside that of a rival.

    Attributes:
        name: Name of the measurement.
        ours: The value of this project.
        rival: The value of the rival, measured in the same run.
        unit: The unit of both values.
        ratio: Ours in relation to the rival; above 1 is better.
        goal: The ratio to reach, or None.
    """

    name: str
    ours: float
    rival: float
    unit: str
    ratio: float
    goal: float | None

    def __str__(self) -> str:
        goal = "" if self.goal is None else f"goal {self.goal:g}"
        verdict = "" if self.goal is None else ("  ok" if self.ratio >= self.goal else "  MISSED")
        return (
            f"{self.name:<58} {self.ours:>10.4g} {self.rival:>10.4g} {self.unit:<9} "
            f"{self.ratio:>7.3g}  {goal}{verdict}"
        )


def alternate(
    ours: Callable[[], None], rival: Callable[[], None], rounds: int
) -> tuple[float, float]:
    """Times two functions alternately, so that other load affects both; returns both minima."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, taken in zip((ours, rival), seconds, strict=True):
            began = time.perf_counter()
            function()
            taken.append(time.perf_counter() - began)
    return min(seconds[0]), min(seconds[1])


def ask_process(module: str, *arguments: str) -> float:
    """Runs a benchmark's module in a new process; returns the last number that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])
