"""What a benchmark says, and how it is printed."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One comparison.

    Attributes:
        what: What was done.
        ours: Our figure.
        rival: The rival's, of the same run.
        unit: Of both.
        ratio: How many times better ours is, or what share of the rival's it reaches.
        goal: The ratio to reach; None where there is none.
    """

    what: str
    ours: float
    rival: float
    unit: str
    ratio: float
    goal: float | None

    def __str__(self) -> str:
        goal = "" if self.goal is None else f"goal {self.goal:g}"
        verdict = "" if self.goal is None else ("  ok" if self.ratio >= self.goal else "  MISSED")
        return (
            f"{self.what:<58} {self.ours:>10.4g} {self.rival:>10.4g} {self.unit:<9} "
            f"{self.ratio:>7.3g}  {goal}{verdict}"
        )


def alternate(
    ours: Callable[[], None], rival: Callable[[], None], rounds: int
) -> tuple[float, float]:
    """Times two things in turn, so that a busy moment hits both; gives the least of each."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, taken in zip((ours, rival), seconds, strict=True):
            began = time.perf_counter()
            function()
            taken.append(time.perf_counter() - began)
    return min(seconds[0]), min(seconds[1])


def ask_process(module: str, *arguments: str) -> float:
    """Runs a benchmark's module in a process of its own; gives the number that it prints last."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])
