"""The number of devices and hosts does not change the result."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from benchmarks.loopback import find_ports, make_cluster
from on_devices import RECIPES

from person_attributes.data.batches import ImageBatches
from person_attributes.errors import TrainingError
from person_attributes.pipeline.phases import require_even_batches
from person_attributes.runtime.devices import gather_devices, read_cluster

_SCRIPT = Path(__file__).parent / "on_devices.py"
_TOLERANCE = 1e-4
"""Absolute tolerance of weights, since the order of summation differs."""

_BACKEND = keras.backend.backend()


def _start(devices: str, count: int, out: Path, *recipes: str, cluster: str = "") -> Any:
    out.mkdir(exist_ok=True)
    variables = {"TF_CPP_MIN_LOG_LEVEL": "3"} | ({"TF_CONFIG": cluster} if cluster else {})
    return subprocess.Popen(
        [sys.executable, str(_SCRIPT), devices, str(count), str(out), *recipes],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(process: Any) -> dict[str, Any]:
    printed, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    results: dict[str, Any] = json.loads(printed)
    return results


def _weights(path: Path) -> list[npt.NDArray[np.float32]]:
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


@dataclass(frozen=True)
class Trained:
    """The output of a process that trained some recipes, and the folder of the weights."""

    devices: int
    losses: dict[str, list[float]]
    folder: Path


def _assert_close(recipe: str, ours: Trained, theirs: Trained) -> None:
    np.testing.assert_allclose(ours.losses[recipe], theirs.losses[recipe], atol=_TOLERANCE)
    name = f"{recipe}.npz"
    for our, their in zip(
        _weights(ours.folder / name), _weights(theirs.folder / name), strict=True
    ):
        np.testing.assert_allclose(our, their, atol=_TOLERANCE)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """All recipes on one device, in one process, since a start takes longer than a recipe."""
    folder = tmp_path_factory.mktemp("alone")
    return Trained(**_finish(_start("one", 1, folder, *RECIPES)), folder=folder)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """All recipes on two devices."""
    folder = tmp_path_factory.mktemp("together")
    return Trained(**_finish(_start("all", 2, folder, *RECIPES)), folder=folder)


@pytest.mark.pipeline
@pytest.mark.skipif(_BACKEND == "torch", reason="PyTorch supports one device")
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_devices_train_the_same_weights_as_one(
    recipe: str, alone: Trained, together: Trained
) -> None:
    """With clipping, accumulation, averaging, augmentation, freezing, and an odd last batch."""
    assert (alone.devices, together.devices) == (1, 2)
    _assert_close(recipe, together, alone)


@pytest.mark.pipeline
@pytest.mark.skipif(_BACKEND != "tensorflow", reason="only TensorFlow supports hosts")
def test_two_hosts_train_the_same_weights_as_one(alone: Trained, tmp_path: Path) -> None:
    ports = find_ports(2)
    hosts = [
        _start("hosts", 1, tmp_path, "sgd", cluster=make_cluster(number, ports))
        for number in range(2)
    ]
    results = [_finish(host) for host in hosts]
    assert results[0] == results[1]
    assert results[0]["devices"] == 2
    _assert_close("sgd", Trained(**results[0], folder=tmp_path), alone)


def test_several_devices_are_refused_on_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with (
        pytest.raises(TrainingError, match=r"torch does not support all\. Set it to one"),
        gather_devices("all"),
    ):
        pass


def test_batches_that_do_not_divide_are_refused_on_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((21, 8, 8, 3), np.uint8)
    targets = {"left": np.eye(3, dtype=np.float32)[np.zeros(21, int)]}

    def make_batches(rows: int, size: int) -> ImageBatches:
        return ImageBatches(images, targets, np.arange(rows), size, augmenter=None, seed=None)

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    require_even_batches("p1", 2, make_batches(20, 8), make_batches(2, 8))
    require_even_batches("p1", 1, make_batches(21, 8))
    with pytest.raises(TrainingError, match="p1: a batch of 5 images does not divide among 2"):
        require_even_batches("p1", 2, make_batches(20, 8), make_batches(21, 8))
    with pytest.raises(
        TrainingError, match=r"a batch of 9 images .* Change the phase's batch_size"
    ):
        require_even_batches("p1", 2, make_batches(18, 9))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
    ],
)
def test_an_invalid_cluster_is_refused_with_an_example(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(
        TrainingError, match=r"TF_CONFIG: expected .*worker.*Set it, or set runtime"
    ):
        read_cluster()
