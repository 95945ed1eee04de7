"""Requests that would cost much memory are refused before they do, and nothing accumulates."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_model import CHAMPION, Registered

_NOISE = 20.0
"""Memory in MB that a process may take for other reasons."""


@dataclass(frozen=True)
class _Cost:
    """The size of a body and the memory that it took, in MB, and the answer."""

    body: float
    memory: float
    message: str


@pytest.fixture(scope="module")
def costs(registered: Registered) -> dict[str, _Cost]:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of a process's memory is only known on Linux")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("hostile_bodies.py")), CHAMPION],
        cwd=registered.root,
        env=registered.environment(MLFLOW_TRACKING_URI="sqlite:///mlflow.db"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout.splitlines()[-1])
    return {name: _Cost(*line) for name, line in lines.items()}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("keys of their own", "more than 16384 values in a request"),
        ("empty rows", "more than 16384 values in a request"),
        ("empty rows of a table", "more than 16384 values in a request"),
        ("tiny rows", "more than 16384 values in a request"),
        ("tiny rows of a table", "more than 16384 values in a request"),
        ("many heads", "more than 16384 values in a request"),
        ("one long string", "row 0: not a JPEG, PNG, WebP or BMP image"),
        ("one long string of another script", "row 0: not a JPEG, PNG, WebP or BMP image"),
        ("nested arrays", "the request is not valid JSON"),
        ("one string", "the request: expected object. Received: str."),
        ("64 megapixels", "row 0: 8000 x 8000 pixels, more than 25 million"),
    ],
)
def test_a_body_that_would_cost_much_memory_is_refused(
    costs: dict[str, _Cost], name: str, reason: str
) -> None:
    cost = costs[name]
    assert cost.message.startswith(reason)
    assert cost.memory < 10 * cost.body + _NOISE


def test_large_images_are_decoded_one_at_a_time(costs: dict[str, _Cost]) -> None:
    assert costs["a large image"].message.startswith('{"predictions":')
    assert costs["large images at once"].message == costs["a large image"].message
    assert costs["large images at once"].memory < 2 * costs["a large image"].memory + _NOISE


def test_memory_does_not_grow_with_the_number_of_requests(costs: dict[str, _Cost]) -> None:
    assert costs["more requests"].message.startswith('{"predictions":')
    assert costs["more requests"].memory < _NOISE
