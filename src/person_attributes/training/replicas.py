"""What several devices compute together, so that a batch trains as on one device."""

from collections.abc import Sequence
from typing import Any

import keras

from person_attributes.errors import TrainingError
from person_attributes.runtime.devices import count_devices, is_across_hosts


def require_agreement(phase: str, fingerprint: str) -> None:
    """Checks that all hosts are about to train the same phase.

    Args:
        phase: The phase on this host.
        fingerprint: Digest of everything that the result depends on.

    Raises:
        TrainingError: If the fingerprints differ: use one shared folder with one `params.yaml`.
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
            f"{phase}: the hosts have different params.yaml, inputs or code. Expected the same on "
            "all hosts. Stop them, use one shared folder, and start them again."
        )


def sum_over_devices(values: Sequence[Any]) -> list[Any]:
    """Sums each tensor over all devices; call it inside a training step."""
    if count_devices() == 1:
        return list(values)
    import tensorflow

    context = tensorflow.distribute.get_replica_context()
    return list(context.all_reduce(tensorflow.distribute.ReduceOp.SUM, list(values)))


def share_batch_norms(network: keras.Model) -> None:
    """Makes batch norms use the mean and variance of the whole batch on all devices."""
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
