"""Data-parallel training of one phase on several devices or hosts.

Every device computes a part of each batch. Gradients, batch norms and metrics cover the whole
batch, so the number of devices changes the duration but not the recipe. The implementations are
`tf.distribute` (mirrored variables) and, on JAX, `keras.distribution`.
"""

import contextlib
import gc
import json
import os
import traceback
from collections.abc import Iterator
from typing import Any

import keras

from person_attributes.config.training import Devices
from person_attributes.errors import TrainingError, one_line

_CLUSTER = "TF_CONFIG"


@contextlib.contextmanager
def gather_devices(devices: Devices) -> Iterator[int]:
    """Distributes the networks that are built in the block over the configured devices.

    Args:
        devices: The value of `runtime.devices`: one device, all devices of this machine, or
            several hosts.

    Yields:
        The number of devices on all hosts.

    Raises:
        TrainingError: If the backend does not support it, `TF_CONFIG` is missing or wrong, or the
            other hosts are unreachable. The message names the setting to change.
    """
    backend = keras.backend.backend()
    if devices == "one":
        yield 1
    elif backend == "tensorflow":
        import tensorflow

        strategy = (
            tensorflow.distribute.MirroredStrategy(_list_devices())
            if devices == "all"
            else _join_hosts()
        )
        with strategy.scope():
            yield strategy.num_replicas_in_sync
    elif backend == "jax" and devices == "all":
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        try:
            yield len(keras.distribution.list_devices())
        finally:
            keras.distribution.set_distribution(None)
    else:
        raise TrainingError(
            f"runtime.devices: the Keras backend {backend} does not support {devices}. Set it to "
            "one, or set KERAS_BACKEND to tensorflow."
        )


def read_cluster() -> tuple[int, int]:
    """Reads the index of this worker and the number of workers from `TF_CONFIG`.

    Raises:
        TrainingError: If `TF_CONFIG` is missing or invalid. The message shows a valid value.
    """
    text = os.environ.get(_CLUSTER, "")
    try:
        content = json.loads(text)
        workers, task = content["cluster"]["worker"], content["task"]
        if list(content["cluster"]) != ["worker"] or task["type"] != "worker":
            raise ValueError
        number = int(task["index"])
        workers[number]
    except (ValueError, KeyError, TypeError, IndexError):
        raise TrainingError(
            f"{_CLUSTER}: expected "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, '
            "workers only, the same on every host except for index. "
            f"Received: {text[:200]!r}. Set it, or set runtime.devices to one or all."
        ) from None
    return number, len(workers)


def _list_devices() -> list[str]:
    import tensorflow

    kinds = [tensorflow.config.list_logical_devices(kind) for kind in ("GPU", "CPU")]
    return [device.name for device in kinds[0] or kinds[1]]


def _join_hosts() -> Any:
    import tensorflow

    number, _ = read_cluster()
    try:
        return tensorflow.distribute.MultiWorkerMirroredStrategy()
    except tensorflow.errors.OpError as error:
        raise TrainingError(
            f"{_CLUSTER}: worker {number} cannot join the others: {error.message.splitlines()[0]} "
            "Start all workers, and check that their ports are reachable."
        ) from None


def _find_strategy() -> Any:
    """Returns the active strategy of TensorFlow; None on other backends."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow

    return tensorflow.distribute.get_strategy()


def count_devices() -> int:
    """Returns how many devices share a batch; 1 on backends that distribute by themselves."""
    strategy = _find_strategy()
    return int(strategy.num_replicas_in_sync) if strategy else 1


def is_across_hosts() -> bool:
    """Returns whether the active strategy trains on several hosts."""
    strategy = _find_strategy()
    if strategy is None:
        return False
    import tensorflow

    return isinstance(strategy, tensorflow.distribute.MultiWorkerMirroredStrategy)


@contextlib.contextmanager
def translate_lost_hosts(phase: str) -> Iterator[None]:
    """Translates TensorFlow's errors in the block when another host no longer responds.

    Raises:
        TrainingError: If a host is lost: restart it, or remove it from `TF_CONFIG`. The last
            checkpoint is kept and works with any number of hosts.
    """
    if not is_across_hosts():
        yield
        return
    import tensorflow

    # Otherwise Keras removes TensorFlow's frames, and their references could not be cleared.
    keras.config.disable_traceback_filtering()
    try:
        yield
    except tensorflow.errors.OpError as error:
        # A thread pool that these frames reference would print an error when Python exits.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        # The message begins with a node or a stack.
        reason = one_line(error.message.rpartition("aborted by: ")[2], 160)
        raise TrainingError(
            f"{phase}: a host was lost ({reason}). Restart person-attributes join there, or remove "
            "the host from TF_CONFIG, and run dvc repro, which resumes from the last checkpoint."
        ) from None
