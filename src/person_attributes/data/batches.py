"""Batches for Keras, drawn as a pure function of (seed, epoch, batch)."""

import copy
import math
import multiprocessing
from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
import numpy.typing as npt

from person_attributes.data.augment import Augmenter
from person_attributes.data.mixing import ByHead, Mixer

Batch = tuple[npt.NDArray[Any], ByHead, ByHead]
"""Images, one-hot targets and weights: 0 where a row has no label of a head."""


class ImageBatches(keras.utils.PyDataset):
    """A `PyDataset` over rows of a pack.

    Rows are shuffled here and not by `fit`: Keras shuffles by a counter that starts at zero after a
    resume, and peeks at two batches before the first epoch. Use with `shuffle=False` and set
    `epoch` before each epoch.

    A row whose target of a head is all zeros has no label there and weighs nothing. The others of
    that head weigh so much more that its loss, averaged over batches, is the mean over labels.

    Attributes:
        images: (n, ...), aligned with the pack: its images, or features in their place.
        targets: `{head: (n, classes)}`, aligned with `images`.
        positions: The rows to serve.
        batch_size: Images per batch; the last batch is smaller where rows do not divide.
        first_batch: Where the epoch begins: set above 0 to go on inside an epoch.
    """

    def __init__(
        self,
        images: npt.NDArray[Any],
        targets: Mapping[str, npt.NDArray[np.float32]],
        positions: npt.NDArray[np.intp],
        batch_size: int,
        *,
        augmenter: Augmenter | None,
        mixer: Mixer | None = None,
        seed: int | None,
        workers: int = 0,
    ) -> None:
        """Describes the batches; reads no image yet.

        Args:
            images: (n, size, size, 3) uint8, usually mapped from disk.
            targets: `{head: (n, classes) float32}`, aligned with `images`; zeros: no label.
            positions: The rows to serve.
            batch_size: Images per batch.
            augmenter: Changes the images, or None to leave them.
            mixer: Mixes images of a batch with each other, and their targets, or None.
            seed: Shuffles and augments, or None to keep the order of `positions`.
            workers: Processes that make batches ahead; 0 makes them in a thread of this one. It
                changes nothing in the batches.
        """
        if multiprocessing.get_start_method() != "fork":
            workers = 0  # macOS: a process that is not forked would need a copy of all images
        super().__init__(workers=max(workers, 1), use_multiprocessing=workers > 0)
        self.images = images
        self.targets = targets
        self._weights = {head: _weigh(target, positions) for head, target in targets.items()}
        self.positions = positions
        self.batch_size = batch_size
        self._augmenter = augmenter
        self._mixer = mixer
        self._seed = seed
        self.first_batch = 0
        self.epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch to serve; setting it draws the order of its rows."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = self.positions
        if self._seed is not None:
            self._order = np.random.default_rng((self._seed, epoch)).permutation(self.positions)

    @property
    def rows(self) -> int:
        """Number of images in a whole epoch."""
        return len(self.positions)

    @property
    def batches(self) -> int:
        """Number of batches in a whole epoch."""
        return math.ceil(len(self.positions) / self.batch_size)

    @property
    def is_augmented(self) -> bool:
        """Whether an image differs from epoch to epoch."""
        return self._augmenter is not None or self._mixer is not None

    def with_images(self, images: npt.NDArray[Any]) -> Self:
        """Gives the same batches of other images, or of features, as they are."""
        batches = copy.copy(self)
        batches.images, batches._augmenter, batches._mixer = images, None, None
        batches.workers, batches.use_multiprocessing = 1, False
        return batches

    def __len__(self) -> int:
        return self.batches - self.first_batch

    def __getitem__(self, index: int) -> Batch:
        index += self.first_batch
        order = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        images = self.images[order]
        targets = {head: target[order] for head, target in self.targets.items()}
        weights = {head: weight[order] for head, weight in self._weights.items()}
        if self._augmenter is not None:
            images = self._augmenter(images, self._batch_seed(index))
        if self._mixer is not None:
            return self._mixer(images, targets, weights, self._batch_seed(index))
        return images, targets, weights

    def _batch_seed(self, index: int) -> int:
        sequence = np.random.SeedSequence((self._seed or 0, self.epoch, index + 1))
        return int(sequence.generate_state(1)[0] >> 1)


def _weigh(
    target: npt.NDArray[np.float32], positions: npt.NDArray[np.intp]
) -> npt.NDArray[np.float32]:
    """Weighs rows: 0 without a label, 1 where all of `positions` have one, else more."""
    is_labelled = target.max(axis=1) > 0
    labels = max(int(is_labelled[positions].sum()), 1)
    weights: npt.NDArray[np.float32] = (is_labelled * (len(positions) / labels)).astype(np.float32)
    return weights
