"""What is set once a process, before a network is built: precision and determinism."""

import os

import keras

from person_attributes.config import TrainingParams
from person_attributes.errors import TrainingError
from person_attributes.runtime.devices import count_devices

_POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",  # Keras scales the loss by itself under this one
}


def configure_runtime(training: TrainingParams) -> None:
    """Sets what layers compute in, and whether operations must repeat to the bit.

    CPU kernels repeat as they are. GPU kernels may add in another order each time; with
    `deterministic` they may not, which costs time.

    Args:
        training: Its `precision` and `deterministic`. Weights stay float32 in every precision.

    Raises:
        TrainingError: If several devices are to train in float16: take bfloat16.
    """
    if training.precision == "float16" and count_devices() > 1:
        raise TrainingError(
            "training.precision: several devices cannot scale a float16 loss together. Expected "
            "float32 or bfloat16. Received: float16. Set it, or runtime.devices to one."
        )
    keras.config.set_dtype_policy(_POLICIES[training.precision])
    if not training.deterministic:
        return
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    elif backend == "torch":
        import torch

        torch.use_deterministic_algorithms(True)
    elif backend == "jax":
        # Read when JAX first computes, which is after this.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
