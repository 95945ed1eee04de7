"""Seconds from the start of a process to its first training step, DenseNet121 at 100 px.

The rival is plain Keras: the same imports and network, `compile` with Keras' Adam, and `fit`.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.comparison import Comparison, ask_process

_IMAGE_SIZE, _ROWS = 100, 64


def measure() -> Iterator[Comparison]:
    """Compares two processes, one after the other."""
    seconds = {}
    for method in ("ours", "rival"):
        began = time.time()
        seconds[method] = ask_process("benchmarks.startup", method) - began
    yield Comparison(
        "start of a phase process until its first step",
        seconds["ours"],
        seconds["rival"],
        "s",
        seconds["rival"] / seconds["ours"],
        2,
    )


def _run(method: str) -> None:
    """Prints the end of the first step in seconds since 1970."""
    import keras
    import mlflow  # noqa: F401
    import numpy as np

    from benchmarks.people import RECIPE, build_network
    from person_attributes.data.batches import ImageBatches
    from person_attributes.runtime.checkpoint import Checkpoint
    from person_attributes.training.callbacks import Recorder
    from person_attributes.training.phase import train_phase

    class FirstStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            print(time.time(), flush=True)
            os._exit(0)

    counts = {head: len(section.classes) for head, section in RECIPE.heads.items()}
    classifier = build_network(_IMAGE_SIZE)
    images = np.zeros((_ROWS, _IMAGE_SIZE, _IMAGE_SIZE, 3), np.uint8)
    targets = {
        head: np.eye(count, dtype=np.float32)[np.arange(_ROWS) % count]
        for head, count in counts.items()
    }
    batches = ImageBatches(images, targets, np.arange(_ROWS), 32, augmenter=None, seed=1)
    if method == "rival":
        classifier.compile(
            optimizer=keras.optimizers.Adam(1e-3),
            loss=dict.fromkeys(counts, "categorical_crossentropy"),
            metrics={head: ["accuracy"] for head in counts},
            jit_compile=False,
        )
        classifier.fit(batches, shuffle=False, verbose=0, callbacks=[FirstStep()])
    Recorder.on_train_batch_end = FirstStep.on_train_batch_end  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder), "p1", "benchmark", minutes=60)
        with checkpoint.lock():
            train_phase(
                classifier,
                batches,
                batches,
                RECIPE.recipe("p1"),
                checkpoint,
                listeners=[],
            )


if __name__ == "__main__":
    _run(sys.argv[1])
