"""Images per second of the data path with the article's augmentation, alone and in `fit`."""

from collections.abc import Iterator

import keras
import numpy as np
import numpy.typing as npt

from benchmarks.article import ArticleBatches
from benchmarks.comparison import Comparison, alternate
from benchmarks.people import RECIPE, People, draw_people
from person_attributes.data.augment import Augmenter
from person_attributes.data.batches import ImageBatches

PEOPLE, BATCH_SIZE, ROUNDS = 1536, 32, 2


def measure() -> Iterator[Comparison]:
    """Compares at 100 and at 200 px."""
    people = draw_people(PEOPLE)
    for image_size, alone, in_fit in ((100, 7, 5), (200, 12, 10)):
        yield from _compare_at(image_size, people, alone, in_fit)


def _compare_at(
    image_size: int, people: People, alone: float, in_fit: float
) -> Iterator[Comparison]:
    ours = ImageBatches(
        people.pack(image_size),
        people.targets,
        np.arange(PEOPLE),
        BATCH_SIZE,
        augmenter=Augmenter(RECIPE.augmentation["standard"]),
        seed=1,
    )
    rival = ArticleBatches(
        people.folder, people.table, people.targets, image_size, BATCH_SIZE, is_augmented=True
    )
    seconds = alternate(lambda: _read(ours), lambda: _read(rival), ROUNDS)
    yield _compare(f"data path, augmented, {image_size} px", seconds, alone)
    our_network = _build_trivial_network(image_size, people.targets, "uint8")
    their_network = _build_trivial_network(image_size, people.targets, "float32")
    our_network.fit(ours, shuffle=False, verbose=0)  # traces
    their_network.fit(rival, shuffle=False, verbose=0)
    seconds = alternate(
        lambda: our_network.fit(ours, shuffle=False, verbose=0),
        lambda: their_network.fit(rival, shuffle=False, verbose=0),
        ROUNDS,
    )
    yield _compare(f"data path, augmented, {image_size} px, in fit", seconds, in_fit)


def _read(batches: keras.utils.PyDataset) -> None:
    for index in range(len(batches)):
        batches[index]


def _build_trivial_network(
    image_size: int, targets: dict[str, npt.NDArray[np.float32]], dtype: str
) -> keras.Model:
    """Builds a network that reads only a corner of the image, so that data limits `fit`."""
    images = keras.Input((image_size, image_size, 3), dtype=dtype)
    corner = keras.layers.Cropping2D(((0, image_size - 2), (0, image_size - 2)))(images)
    vector = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(corner))
    outputs = {
        head: keras.layers.Dense(target.shape[1], "softmax", name=head)(vector)
        for head, target in targets.items()
    }
    network = keras.Model(images, outputs)
    network.compile("sgd", dict.fromkeys(targets, "categorical_crossentropy"), jit_compile=False)
    return network


def _compare(name: str, seconds: tuple[float, float], goal: float) -> Comparison:
    ours, rival = (PEOPLE / taken for taken in seconds)
    return Comparison(name, ours, rival, "images/s", ours / rival, goal)
