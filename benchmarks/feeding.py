"""Training with the data pipeline against training with one constant batch in memory."""

from collections.abc import Iterator

import numpy as np

from benchmarks.comparison import Comparison, alternate
from benchmarks.people import RECIPE, build_network, draw_people
from person_attributes.data.augment import Augmenter
from person_attributes.data.batches import Batch, ImageBatches
from person_attributes.training.phase import check_pairing, make_network

PEOPLE, IMAGE_SIZE, ROUNDS = 256, 100, 3


class _ConstantBatches(ImageBatches):
    """Returns its first batch for every index."""

    def __getitem__(self, index: int) -> Batch:
        if not hasattr(self, "_first"):
            self._first = super().__getitem__(0)
        return self._first


def measure() -> Iterator[Comparison]:
    """Compares epochs of DenseNet121 at 100 px with the article's augmentation."""
    people = draw_people(PEOPLE)
    fed, constant = (
        make(
            people.pack(IMAGE_SIZE),
            people.targets,
            np.arange(PEOPLE),
            RECIPE.phases["p1"].batch_size,
            augmenter=Augmenter(RECIPE.augmentation["standard"]),
            seed=1,
        )
        for make in (ImageBatches, _ConstantBatches)
    )
    network = make_network(build_network(IMAGE_SIZE), fed, RECIPE.recipe("p1"))
    check_pairing(network, fed)
    network.fit(constant, shuffle=False, verbose=0)  # traces
    ours, rival = alternate(
        lambda: network.fit(fed, shuffle=False, verbose=0),
        lambda: network.fit(constant, shuffle=False, verbose=0),
        ROUNDS,
    )
    name = f"DenseNet121 at {IMAGE_SIZE} px with the data pipeline"
    yield Comparison(name, PEOPLE / ours, PEOPLE / rival, "images/s", rival / ours, 0.98)
