"""Training speed in lower precision, with XLA, and with deterministic operations."""

import json
import os
import sys
from collections.abc import Iterator

from benchmarks.comparison import Comparison, ask_process
from benchmarks.people import BEST_RECIPE, RECIPE, build_network
from person_attributes.config import Params

_NETWORKS: dict[str, tuple[Params, tuple[int | str, ...]]] = {
    "DenseNet121": (RECIPE, (100, 200)),
    "residual": (BEST_RECIPE, ("160x80",)),
}
"""The recipe of each network, and the image sizes to measure."""

_BASE: dict[str, object] = {"precision": "float32", "jit_compile": False}

_CHANGES: dict[str, dict[str, object]] = {
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "XLA": {"jit_compile": True},
    "deterministic": {"deterministic": True},
}


def measure() -> Iterator[Comparison]:
    """Compares with float32: bfloat16 and determinism at the smallest size; on a GPU everything."""
    is_gpu = bool(os.environ.get("BENCHMARK_GPU"))
    for network, (_, image_sizes) in _NETWORKS.items():
        for image_size in image_sizes if is_gpu else image_sizes[:1]:
            base = _time(network, image_size, _BASE)
            for name, change in _CHANGES.items():
                if name in {"XLA", "float16"} and not is_gpu:
                    continue
                rate = _time(network, image_size, _BASE | change)
                title = f"{network} at {image_size} px, {name} against float32"
                yield Comparison(title, rate, base, "images/s", rate / base, None)


def _time(network: str, image_size: int | str, training: dict[str, object]) -> float:
    return ask_process(
        "benchmarks.precision", network, json.dumps(image_size), json.dumps(training)
    )


def _run(name: str, image_size: int | str, training: dict[str, object]) -> None:
    """Prints images per second of training on one batch in memory."""
    import time

    import numpy as np

    from person_attributes.data.batches import ImageBatches
    from person_attributes.framing import height_and_width
    from person_attributes.training.phase import make_network
    from person_attributes.training.precision import configure_runtime

    recipe, _ = _NETWORKS[name]
    params = recipe.change({f"training.{key}": value for key, value in training.items()})
    configure_runtime(params.training)
    size = params.phases["p1"].batch_size
    images = np.zeros((size, *height_and_width(image_size), 3), np.uint8)
    targets = {
        head: np.eye(len(section.classes), dtype=np.float32)[np.arange(size) % 2]
        for head, section in params.heads.items()
    }
    batches = ImageBatches(images, targets, np.arange(size), size, augmenter=None, seed=None)
    network = make_network(build_network(image_size, params), batches, params.recipe("p1"))
    rates = []
    for step in range(10):
        began = time.perf_counter()
        network.train_on_batch(*batches[0])
        if step > 1:
            rates.append(size / (time.perf_counter() - began))
    print(max(rates))


if __name__ == "__main__":
    _run(sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3]))
