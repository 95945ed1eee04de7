"""Speed of DenseNet121 in lower precision, with XLA, and with deterministic operations."""

import json
import os
import sys
from collections.abc import Iterator

from benchmarks.comparison import Comparison, ask_process

_IMAGE_SIZES = (100, 200)
_CHANGES: dict[str, dict[str, object]] = {
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "XLA": {"jit_compile": True},
    "deterministic": {"deterministic": True},
}


def measure() -> Iterator[Comparison]:
    """Compares with float32: bfloat16 and determinism at 100 px; on a GPU everything."""
    is_gpu = bool(os.environ.get("BENCHMARK_GPU"))
    for image_size in _IMAGE_SIZES if is_gpu else _IMAGE_SIZES[:1]:
        base = _time(image_size, {})
        for name, change in _CHANGES.items():
            if name in {"XLA", "float16"} and not is_gpu:
                continue
            rate = _time(image_size, change)
            title = f"DenseNet121 at {image_size} px, {name} against float32"
            yield Comparison(title, rate, base, "images/s", rate / base, None)


def _time(image_size: int, change: dict[str, object]) -> float:
    return ask_process("benchmarks.precision", str(image_size), json.dumps(change))


def _run(image_size: int, change: dict[str, object]) -> None:
    """Prints images per second of training on one batch in memory."""
    import time

    import numpy as np

    from benchmarks.people import RECIPE, build_network
    from person_attributes.data.batches import ImageBatches
    from person_attributes.training.phase import make_network
    from person_attributes.training.precision import configure_runtime

    params = RECIPE.change({f"training.{key}": value for key, value in change.items()})
    configure_runtime(params.training)
    size = params.phases["p1"].batch_size
    images = np.zeros((size, image_size, image_size, 3), np.uint8)
    targets = {
        head: np.eye(len(section.classes), dtype=np.float32)[np.arange(size) % 2]
        for head, section in RECIPE.heads.items()
    }
    batches = ImageBatches(images, targets, np.arange(size), size, augmenter=None, seed=None)
    network = make_network(build_network(image_size), batches, params.recipe("p1"))
    rates = []
    for step in range(10):
        began = time.perf_counter()
        network.train_on_batch(*batches[0])
        if step > 1:
            rates.append(size / (time.perf_counter() - began))
    print(max(rates))


if __name__ == "__main__":
    _run(int(sys.argv[1]), json.loads(sys.argv[2]))
