"""Precision and determinism, which a process sets before it builds a network."""

import os
import re
from pathlib import Path

import keras

from person_attributes.config import TrainingParams
from person_attributes.errors import TrainingError
from person_attributes.runtime.devices import count_devices

_POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",  # Keras scales the loss by itself under this one
}

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_FLAGS = {
    "bfloat16": {"avx512f", "avx_ne_convert"},
    "float16": {"avx512_fp16", "avx_ne_convert"},
}
"""TensorFlow uses oneDNN's kernels of a precision on CPUs with one of its flags."""


def configure_runtime(training: TrainingParams) -> None:
    """Sets the dtype policy of layers and the determinism of operations.

    CPU kernels are deterministic. GPU kernels may sum in a varying order; `deterministic` prevents
    that and costs time.

    Args:
        training: Its `precision` and `deterministic`. Weights stay float32 in every precision.

    Raises:
        TrainingError: If several devices train in float16: use bfloat16.
    """
    if training.precision == "float16" and count_devices() > 1:
        raise TrainingError(
            "training.precision: several devices do not support loss scaling for float16. Expected "
            "float32 or bfloat16. Received: float16. Change it, or set runtime.devices to one."
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
        # JAX reads the flags at its first computation, which is later.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def has_slow_kernels(training: TrainingParams) -> bool:
    """Returns whether TensorFlow lacks fast kernels of the precision on this machine.

    TensorFlow then uses kernels of Eigen instead of oneDNN's. They take several times as long as
    float32. Only Linux on x86 lists the flags of its CPU.
    """
    flags = _CPU_FLAGS.get(training.precision)
    if flags is None or keras.backend.backend() != "tensorflow":
        return False
    import tensorflow

    if any(device.device_type != "CPU" for device in tensorflow.config.list_physical_devices()):
        return False
    try:
        content = _CPU_INFO.read_text(encoding="utf-8")
    except OSError:
        return False
    line = re.search(r"^flags\s*:(.*)$", content, re.MULTILINE)
    return line is not None and flags.isdisjoint(line[1].split())
