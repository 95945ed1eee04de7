"""Memory of a training process for two numbers of images: packs are memory-mapped."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.comparison import Comparison, ask_process

_MANY, _FEW, _IMAGE_SIZE = 13_573, 1_357, 100


def measure() -> Iterator[Comparison]:
    """Compares the peak memory of an epoch over 13,573 images, like the article, with a tenth."""
    peaks = {}
    for count in (_FEW, _MANY):
        peaks[count] = ask_process("benchmarks.memory", str(count))
    name = f"peak memory of a phase, {_MANY:,} images against {_FEW:,}"
    yield Comparison(name, peaks[_MANY], peaks[_FEW], "MB", peaks[_FEW] / peaks[_MANY], 0.95)


def _run(count: int) -> None:
    """Prints the peak of the process's private memory in MB, without pages of mapped files."""
    import keras
    import numpy as np

    from benchmarks.people import RECIPE
    from person_attributes.data.augment import Augmenter
    from person_attributes.data.batches import ImageBatches
    from person_attributes.data.packs import create_array, open_pack
    from person_attributes.modeling.classifier import Normalization, build_classifier
    from person_attributes.training.phase import check_pairing, make_network

    peak = 0.0

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            nonlocal peak
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            peak = max(peak, int(line.split()[1]) / 1e3)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pack.npy"
        shape = (count, _IMAGE_SIZE, _IMAGE_SIZE, 3)
        create_array(path, np.uint8, shape).flush()
        targets = {
            head: np.eye(len(section.classes), dtype=np.float32)[
                np.arange(count) % len(section.classes)
            ]
            for head, section in RECIPE.heads.items()
        }
        model = RECIPE.model.model_copy(update={"blocks": (1, 1, 1, 1)})
        counts = {head: target.shape[1] for head, target in targets.items()}
        classifier = build_classifier(
            _IMAGE_SIZE, counts, model, Normalization([128.0] * 3, [64.0] * 3)
        )
        policy = RECIPE.augmentation["standard"]
        batches = ImageBatches(
            open_pack(path), targets, np.arange(count), 32, augmenter=Augmenter(policy), seed=1
        )
        network = make_network(classifier, batches, RECIPE.recipe("p1"))
        check_pairing(network, batches)
        network.fit(batches, shuffle=False, verbose=0, callbacks=[Watch()])
    print(peak)


if __name__ == "__main__":
    _run(int(sys.argv[1]))
