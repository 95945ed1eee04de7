"""Precision that the CPU computes slowly is noticed."""

from pathlib import Path

import keras
import pytest
import tensorflow

from person_attributes.config import Params
from person_attributes.training import precision as settings
from person_attributes.training.precision import has_slow_kernels

if keras.backend.backend() != "tensorflow":
    pytest.skip("other backends have other kernels", allow_module_level=True)

_AVX2 = (
    "processor\t: 0\nflags\t\t: fpu fma avx avx2\n\nprocessor\t: 1\nflags\t\t: fpu fma avx avx2\n"
)
_ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"


@pytest.mark.parametrize(
    ("cpu", "gpus", "precision", "is_slow"),
    [
        (_AVX2, 0, "float32", False),
        (_AVX2, 0, "bfloat16", True),
        (_AVX2, 1, "bfloat16", False),
        (_AVX2, 0, "float16", True),
        (_AVX2.replace("avx2", "avx2 avx512f"), 0, "bfloat16", False),
        (_AVX2.replace("avx2", "avx2 avx512f"), 0, "float16", True),
        (_AVX2.replace("avx2", "avx2 avx_ne_convert"), 0, "float16", False),
        (_ARM, 0, "bfloat16", False),
        (None, 0, "bfloat16", False),
    ],
)
def test_a_cpu_without_fast_kernels_is_noticed(
    params: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpu: str | None,
    gpus: int,
    precision: str,
    is_slow: bool,
) -> None:
    if cpu is not None:
        (tmp_path / "cpuinfo").write_text(cpu, encoding="utf-8")
    devices = [tensorflow.config.PhysicalDevice(name, name) for name in ["CPU", *["GPU"] * gpus]]
    monkeypatch.setattr(tensorflow.config, "list_physical_devices", lambda: devices)
    monkeypatch.setattr(settings, "_CPU_INFO", tmp_path / "cpuinfo")
    training = params.training.model_copy(update={"precision": precision})
    assert has_slow_kernels(training) is is_slow
