"""Predictions do not depend on the number of threads, which follows the cores of the process."""

import os
import sys

import numpy as np
import pytest
from tiny_model import IMAGE_SIZE, Registered

from person_attributes.errors import RegistryError
from person_attributes.runtime.cores import count_cores
from person_attributes.serving.network import Network
from person_attributes.serving.threads import THREADS_VARIABLE, count_threads


def test_the_last_digits_do_not_depend_on_the_number_of_threads(
    registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise the faster one of both sessions would be used.
    monkeypatch.setattr(
        Network, "_time", lambda _, session: -session.get_session_options().intra_op_num_threads
    )
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
    monkeypatch.setattr("person_attributes.runtime.cores._read_quotas", lambda: iter([6]))
    assert count_cores() == count_threads() == 6
    monkeypatch.setattr(sys, "argv", ["/bin/uvicorn", "--port", "5000", "--workers", "4", "app"])
    assert count_threads() == 1
    monkeypatch.setenv(THREADS_VARIABLE, "5")
    assert count_threads() == 5
    monkeypatch.setenv(THREADS_VARIABLE, "many")
    with pytest.raises(RegistryError, match="PERSON_ATTRIBUTES_THREADS: expected a number"):
        count_threads()
