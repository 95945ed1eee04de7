"""The parts of a training step, for one worker process and for two workers on loopback.

Every worker has its own core, which simulates a device. The global batch is constant: each of two
workers computes half of it. The time of a step minus the time to compute one part of the batch is
the overhead of synchronization: summing gradients, batch norms of the whole batch, and waiting.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.comparison import Comparison
from benchmarks.loopback import find_ports, make_cluster

_BATCH, _IMAGE_SIZE, _STEPS = 32, 64, 8


def measure() -> Iterator[Comparison]:
    """Compares the milliseconds of a step of DenseNet121, by part, with those of one worker."""
    alone = _ask(1, _BATCH)[0]
    half = _ask(1, _BATCH // 2)[0]
    first, _ = _ask(2, _BATCH)
    name = f"DenseNet121, {_IMAGE_SIZE} px, batch of {_BATCH}:"
    overhead = first["step"] - half["step"]
    yield Comparison(
        f"{name} a step", first["step"], alone["step"], "ms", _ratio(alone, first), None
    )
    yield Comparison(
        f"{name} computing", half["step"], alone["step"], "ms", _ratio(alone, half), None
    )
    yield Comparison(f"{name} synchronization", overhead, 0, "ms", 0, None)
    ratio = alone["input"] / first["input"]
    yield Comparison(f"{name} input", first["input"], alone["input"], "ms", ratio, None)
    yield Comparison(f"{name} gradients", first["gradients"], 0, "MB", 0, None)


def _ratio(rival: dict[str, float], ours: dict[str, float]) -> float:
    return rival["step"] / ours["step"]


def _ask(workers: int, batch: int) -> list[dict[str, float]]:
    """Runs workers; returns the measurements of each."""
    ports = find_ports(workers)
    with contextlib.ExitStack() as stack:
        processes = []
        for number in range(workers):
            environment = os.environ | {
                "TF_CONFIG": make_cluster(number, ports),
                "TF_CPP_MIN_LOG_LEVEL": "3",
            }
            command = [sys.executable, "-m", __name__, str(number), str(workers), str(batch)]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)  # a worker may wait long for another one that failed
        return [_read(process) for process in processes]


def _read(process: subprocess.Popen[str]) -> dict[str, float]:
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"devices: a worker ended early: {printed[-500:]}")
    measured: dict[str, float] = json.loads(printed.splitlines()[-1])
    return measured


def _run(number: int, workers: int, batch: int) -> None:
    """Trains on one core, and prints milliseconds per step."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})

    import numpy as np

    from benchmarks.people import RECIPE, build_network, draw_people
    from person_attributes.data.augment import Augmenter
    from person_attributes.data.batches import ImageBatches
    from person_attributes.runtime.devices import gather_devices
    from person_attributes.training.phase import check_pairing, make_network

    people = draw_people(batch)
    augmenter = Augmenter(RECIPE.augmentation["standard"])
    with gather_devices("hosts" if workers > 1 else "one"):
        batches = ImageBatches(
            people.pack(_IMAGE_SIZE),
            people.targets,
            np.tile(np.arange(batch), _STEPS),
            batch,
            augmenter=augmenter,
            seed=1,
        )
        network = make_network(build_network(_IMAGE_SIZE), batches, RECIPE.recipe("p3"))
        check_pairing(network, batches)
        began = time.perf_counter()
        for index in range(_STEPS):
            batches[index]
        seconds = {"input": (time.perf_counter() - began) / _STEPS}
        seconds["step"] = _time_steps(network, batches)
        weights = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    milliseconds = {name: 1000 * value for name, value in seconds.items()}
    print(json.dumps(milliseconds | {"gradients": 4 * weights / 1e6}))


def _time_steps(network: Any, batches: Any) -> float:
    """Returns the median seconds of a step after tracing."""
    import keras
    import numpy as np

    ends: list[float] = []
    timer = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )
    network.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[timer])
    return float(np.median(np.diff(ends[_STEPS:])))


if __name__ == "__main__":
    _run(*(int(argument) for argument in sys.argv[1:]))
