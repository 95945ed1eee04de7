"""Several devices, and several hosts, that train one phase together.

Every device computes a share of each batch, and gradients, batch norms and figures are those of
the whole batch: the number of devices changes the time and not the recipe. The engines are
`tf.distribute` (mirrored variables) and `keras.distribution` on JAX.
"""

import contextlib
import gc
import json
import os
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from person_attributes.config.training import Devices
from person_attributes.errors import TrainingError, one_line

_CLUSTER = "TF_CONFIG"


@contextlib.contextmanager
def gather_devices(devices: Devices) -> Iterator[int]:
    """Has what is built in the block train on one device, all of this machine, or several hosts.

    Args:
        devices: As `runtime.devices` has it.

    Yields:
        How many devices there are, on all hosts.

    Raises:
        TrainingError: If the backend cannot, `TF_CONFIG` is missing or wrong, or the other hosts
            cannot be reached: the message says what to set.
    """
    backend = keras.backend.backend()
    if devices == "one":
        yield 1
    elif backend == "tensorflow":
        import tensorflow

        is_alone = devices == "all"
        strategy = (
            tensorflow.distribute.MirroredStrategy(_list_devices()) if is_alone else _join_hosts()
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
            f"runtime.devices: Keras' backend {backend} trains on one device here. Set it to one, "
            "or KERAS_BACKEND to tensorflow."
        )


def require_agreement(phase: str, fingerprint: str) -> None:
    """Holds what the hosts are about to train against each other.

    Args:
        phase: The phase, as this host has it.
        fingerprint: Digest of everything that its result depends on.

    Raises:
        TrainingError: If they differ: have all hosts see one folder, with one `params.yaml`.
    """
    if not is_across_hosts():
        return
    import tensorflow

    strategy = tensorflow.distribute.get_strategy()
    own = int(fingerprint[:5], 16)  # small enough for sums and squares to be exact
    numbers = strategy.experimental_local_results(
        strategy.run(lambda: sum_over_devices([tensorflow.constant([own, own**2], "float64")])[0])
    )
    total, squares = numbers[0].numpy()
    devices = strategy.num_replicas_in_sync
    if (total, squares) != (devices * own, devices * own**2):
        raise TrainingError(
            f"{phase}: the hosts are about to train something else than each other. Expected the "
            "same params.yaml, inputs and code on all of them. Have them see one folder, end "
            "them, and start them again."
        )


def read_cluster() -> tuple[int, int]:
    """Reads the number of this process, and how many there are, off `TF_CONFIG`.

    Raises:
        TrainingError: If it is missing, or does not name this process.
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
            f"workers alone, the same on every host but for index. Received: {text[:200]!r}. Set "
            "it, or runtime.devices to one or all."
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
            "Start all workers, and see that their ports can be reached."
        ) from None


def _find_strategy() -> Any:
    """Gives TensorFlow's strategy of what is built now; None on backends that need no help."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow

    return tensorflow.distribute.get_strategy()


def count_devices() -> int:
    """Says how many devices share a batch of what is built now; 1 on backends that need no help."""
    strategy = _find_strategy()
    return int(strategy.num_replicas_in_sync) if strategy else 1


def is_across_hosts() -> bool:
    """Says whether what is built now trains on several hosts."""
    strategy = _find_strategy()
    if strategy is None:
        return False
    import tensorflow

    return isinstance(strategy, tensorflow.distribute.MultiWorkerMirroredStrategy)


def sum_over_devices(values: Sequence[Any]) -> list[Any]:
    """Adds tensors of this device to those of the others; inside a training step."""
    if count_devices() == 1:
        return list(values)
    import tensorflow

    context = tensorflow.distribute.get_replica_context()
    return list(context.all_reduce(tensorflow.distribute.ReduceOp.SUM, list(values)))


def share_batch_norms(network: keras.Model) -> None:
    """Has batch norms take mean and variance of the whole batch, of all devices."""
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


@contextlib.contextmanager
def translate_lost_hosts(phase: str) -> Iterator[None]:
    """Words what TensorFlow raises in the block where another host does not answer any more.

    Raises:
        TrainingError: If one is lost. The last checkpoint stays, for as many hosts as there will be.
    """
    if not is_across_hosts():
        yield
        return
    import tensorflow

    # Else Keras leaves TensorFlow's own frames out, and what they hold could not be cleared.
    keras.config.disable_traceback_filtering()
    try:
        yield
    except tensorflow.errors.OpError as error:
        # A pool of threads that TensorFlow leaves there would complain when Python ends.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        reason = one_line(error.message, 160)
        raise TrainingError(
            f"{phase}: a host was lost ({reason}). Start its person-attributes join again, or take "
            "it out of TF_CONFIG, and run dvc repro, which goes on from the last epoch that was "
            "backed up."
        ) from None
