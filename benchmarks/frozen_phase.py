"""An epoch of a phase with a frozen backbone, without augmentation, on cached features."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from benchmarks.comparison import Comparison, alternate
from benchmarks.people import RECIPE, build_network, draw_people
from person_attributes.data.batches import ImageBatches
from person_attributes.modeling.classifier import freeze
from person_attributes.training.features import cache_features, split_off_towers
from person_attributes.training.objective import PhaseNetwork, compile_network, make_losses
from person_attributes.training.optimizer import make_optimizer
from person_attributes.training.phase import check_pairing

_FROZEN = RECIPE.recipe("p2")
PEOPLE, VALIDATION, EPOCHS, ROUNDS = 512, 64, 3, 2


def measure() -> Iterator[Comparison]:
    """Compares it with an epoch that runs DenseNet121."""
    for image_size in (100, 200):
        yield from _compare_at(image_size)


def _compare_at(image_size: int) -> Iterator[Comparison]:
    people = draw_people(PEOPLE)
    train, validation = (
        ImageBatches(
            people.pack(image_size),
            people.targets,
            positions,
            _FROZEN.phase.batch_size,
            augmenter=None,
            seed=seed,
        )
        for positions, seed in (
            (np.arange(VALIDATION, PEOPLE), 1),
            (np.arange(VALIDATION), None),
        )
    )
    classifier = build_network(image_size)
    freeze(classifier, "heads")
    losses = make_losses(_FROZEN.loss, people.targets)
    towers, whole = (
        PhaseNetwork(network, losses, _FROZEN.loss)
        for network in (split_off_towers(classifier), classifier)
    )
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        features = cache_features(classifier, train, validation, Path(folder) / "features.npy")
        once = time.perf_counter() - began
        for network, (batches, held_out) in ((towers, features), (whole, (train, validation))):
            compile_network(network, make_optimizer(_FROZEN.optimizer, 1e-3), jit_compile=False)
            check_pairing(network, held_out)
            network.fit(batches, validation_data=held_out, shuffle=False, verbose=0)  # traces
        ours, rival = alternate(
            lambda: _train(towers, *features), lambda: _train(whole, train, validation), ROUNDS
        )
    ours, rival = ours / EPOCHS, rival / EPOCHS
    yield Comparison(
        f"an epoch of a frozen phase, {image_size} px", ours, rival, "s", rival / ours, 20
    )
    yield Comparison(
        "  computing the features, once per phase", once, rival, "s", rival / once, None
    )


def _train(network: keras.Model, train: ImageBatches, validation: ImageBatches) -> None:
    network.fit(train, validation_data=validation, epochs=EPOCHS, shuffle=False, verbose=0)
