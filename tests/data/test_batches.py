import multiprocessing

import keras
import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.config import Params
from person_attributes.data.augment import Augmenter
from person_attributes.data.batches import ImageBatches
from person_attributes.data.mixing import Mixer


@pytest.fixture
def images(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    return random.integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)


def _batches(images: npt.NDArray[np.uint8], params: Params, policy: str) -> ImageBatches:
    targets = {"number": np.arange(len(images), dtype=np.float32)[:, None]}
    section = params.augmentation[policy]
    augmenter = Augmenter(section) if section.augmenters else None
    mixer = Mixer(section) if section.mixes else None
    return ImageBatches(images, targets, np.arange(11), 4, augmenter=augmenter, mixer=mixer, seed=5)


def _read(batches: ImageBatches, epoch: int) -> list[tuple[npt.NDArray[np.uint8], list[int]]]:
    batches.epoch = epoch
    return [
        (images, targets["number"][:, 0].astype(int).tolist())
        for images, targets, _ in (batches[index] for index in range(len(batches)))
    ]


def test_every_row_is_served_in_each_epoch_in_batches_of_one_size(
    images: npt.NDArray[np.uint8], params: Params
) -> None:
    batches = _batches(images, params, "none")
    epochs = [[rows for _, rows in _read(batches, epoch)] for epoch in (0, 1)]
    assert [len(rows) for rows in epochs[0]] == [4, 4, 4]
    orders = [[row for rows in epoch for row in rows] for epoch in epochs]
    assert [sorted(order[:11]) for order in orders] == [list(range(11))] * 2
    assert orders[0][11:] == orders[0][:1]  # the last batch is completed from the first one
    assert orders[0] != orders[1]
    assert batches.rows == 12


def test_few_rows_are_one_batch_without_repetitions(images: npt.NDArray[np.uint8]) -> None:
    targets = {"number": np.arange(11, dtype=np.float32)[:, None]}
    batches = ImageBatches(images, targets, np.arange(3), 4, augmenter=None, seed=5)
    assert [sorted(rows) for _, rows in _read(batches, epoch=0)] == [[0, 1, 2]]


def test_rows_that_are_not_shuffled_are_served_once(images: npt.NDArray[np.uint8]) -> None:
    targets = {"number": np.arange(11, dtype=np.float32)[:, None]}
    batches = ImageBatches(images, targets, np.arange(11), 4, augmenter=None, seed=None)
    assert [row for _, rows in _read(batches, epoch=0) for row in rows] == list(range(11))


def test_images_stay_aligned_with_their_targets(
    images: npt.NDArray[np.uint8], params: Params
) -> None:
    for batch, rows in _read(_batches(images, params, "none"), epoch=3):
        np.testing.assert_array_equal(batch, images[rows])


@pytest.mark.parametrize("policy", ["aggressive", "mixed"])
def test_a_batch_depends_only_on_seed_epoch_and_number(
    images: npt.NDArray[np.uint8], params: Params, policy: str
) -> None:
    batches = _batches(images, params, policy)
    in_order = _read(batches, epoch=2)
    batches.epoch = 2
    for index in (2, 0, 1, 0):
        np.testing.assert_array_equal(batches[index][0], in_order[index][0])
    fresh = _read(_batches(images, params, policy), epoch=2)
    np.testing.assert_array_equal(fresh[1][0], in_order[1][0])


def test_fit_trains_on_every_batch_of_each_epoch(
    images: npt.NDArray[np.uint8], params: Params
) -> None:
    """Keras reads batches before the first epoch, which must not shift the training batches."""
    batches = _batches(images, params, "none")

    class SetEpoch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            batches.epoch = epoch

    seen = _Rows()
    model = keras.Sequential([keras.Input((32, 32, 3)), seen, keras.layers.Flatten()])
    model.add(keras.layers.Dense(1, name="number"))
    model.compile("sgd", loss="mse", run_eagerly=True)
    flat = _Unpacked(batches)
    model.fit(flat, epochs=2, shuffle=False, verbose=0, callbacks=[SetEpoch()])
    expected = [images[rows] for epoch in (0, 1) for _, rows in _read(batches, epoch)]
    assert len(seen.batches) == len(expected)
    for read, wanted in zip(seen.batches, expected, strict=True):
        np.testing.assert_array_equal(read, wanted)


class _Rows(keras.layers.Layer):
    """Records its inputs."""

    def __init__(self) -> None:
        super().__init__(trainable=False)
        self.batches: list[npt.NDArray[np.float32]] = []

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        if not isinstance(inputs, keras.KerasTensor) and inputs.shape[0]:
            self.batches.append(np.array(inputs))
        return inputs


class _Unpacked(keras.utils.PyDataset):
    """Serves a single target instead of a dict."""

    def __init__(self, batches: ImageBatches) -> None:
        super().__init__()
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        images, targets, _ = self._batches[index]
        return images, targets["number"]


def test_a_thread_is_used_where_processes_cannot_fork(
    images: npt.NDArray[np.uint8], params: Params
) -> None:
    usual = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        batches = ImageBatches(images, {}, np.arange(11), 4, augmenter=None, seed=5, workers=3)
    finally:
        multiprocessing.set_start_method(usual, force=True)
    assert (batches.workers, batches.use_multiprocessing) == (1, False)
