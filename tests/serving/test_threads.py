"""Predictions do not depend on the number of threads, which follows the cores of the process."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_model import IMAGE_SIZE, Registered

from person_attributes.errors import RegistryError
from person_attributes.serving.cores import THREADS_VARIABLE, count_cores, count_threads
from person_attributes.serving.network import Network


def test_the_last_digits_do_not_depend_on_the_number_of_threads(
    registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise such a small network would run on one core.
    monkeypatch.setattr("person_attributes.serving.network._SECONDS_ON_ONE_CORE", 0)
    shape = (4, IMAGE_SIZE, IMAGE_SIZE, 3)
    images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    answers = []
    for threads in (1, 2, 3, 8):
        monkeypatch.setenv(THREADS_VARIABLE, str(threads))
        network = Network(registered.root / "network.onnx")
        answers.append(network.predict(images))
        answers += [
            {head: one[None] for head, one in network.predict_image(image, False).items()}
            for image in images[:1]
        ]
    for answer in answers[1:]:
        for head, expected in answers[0].items():
            np.testing.assert_array_equal(answer[head], expected[: len(answer[head])])


def test_threads_follow_the_affinity_the_workers_and_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("person_attributes.serving.cores._read_quotas", lambda: iter([6]))
    assert count_cores() == count_threads() == 6
    monkeypatch.setattr(sys, "argv", ["/bin/uvicorn", "--port", "5000", "--workers", "4", "app"])
    assert count_threads() == 1
    monkeypatch.setenv(THREADS_VARIABLE, "5")
    assert count_threads() == 5
    monkeypatch.setenv(THREADS_VARIABLE, "many")
    with pytest.raises(RegistryError, match="PERSON_ATTRIBUTES_THREADS: expected a number"):
        count_threads()


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"": "max 100000"}, []),
        ({"a/b": "250000 100000"}, [2]),
        ({"a": "400000 100000", "a/b": "max 100000"}, [4]),
        ({"a/b": "50000 100000"}, [0]),
        ({"a/b": "broken"}, []),
        ({}, []),
    ],
)
def test_the_quota_of_a_container_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quotas: dict[str, str], cores: list[int]
) -> None:
    from person_attributes.serving import cores as module

    (tmp_path / "self").write_text("0::/a/b\n", encoding="ascii")
    for folder, text in quotas.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cpu.max").write_text(text + "\n", encoding="ascii")
    monkeypatch.setattr(module, "_CGROUPS", tmp_path)
    monkeypatch.setattr(module, "_OWN_CGROUP", tmp_path / "self")
    assert list(module._read_quotas()) == cores
