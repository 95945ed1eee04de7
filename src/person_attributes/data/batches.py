"""Batches for Keras, drawn as a pure function of (seed, epoch, batch)."""

import math
from collections.abc import Mapping

import keras
import numpy as np
import numpy.typing as npt

from person_attributes.data.augment import Augmenter
from person_attributes.data.images import Images

Batch = tuple[Images, dict[str, npt.NDArray[np.float32]]]


class ImageBatches(keras.utils.PyDataset):
    """A `PyDataset` over rows of a pack.

    Rows are shuffled here and not by `fit`: Keras shuffles by a counter that starts at zero after a
    resume, and peeks at two batches before the first epoch. Use with `shuffle=False` and set
    `epoch` before each epoch.
    """

    def __init__(
        self,
        images: Images,
        targets: Mapping[str, npt.NDArray[np.float32]],
        positions: npt.NDArray[np.intp],
        batch_size: int,
        *,
        augmenter: Augmenter | None,
        seed: int | None,
    ) -> None:
        """Describes the batches; reads no image yet.

        Args:
            images: (n, size, size, 3) uint8, usually mapped from disk.
            targets: `{head: (n, classes) float32}`, aligned with `images`.
            positions: The rows to serve.
            batch_size: Images per batch; the last batch is smaller where rows do not divide.
            augmenter: Changes the images, or None to leave them.
            seed: Shuffles and augments, or None to keep the order of `positions`.
        """
        super().__init__()
        self._images = images
        self._targets = targets
        self._positions = positions
        self.batch_size = batch_size
        self._augmenter = augmenter
        self._seed = seed
        self.epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch to serve; setting it draws the order of its rows."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = self._positions
        if self._seed is not None:
            self._order = np.random.default_rng((self._seed, epoch)).permutation(self._positions)

    @property
    def rows(self) -> int:
        """Number of images in an epoch."""
        return len(self._positions)

    def __len__(self) -> int:
        return math.ceil(len(self._positions) / self.batch_size)

    def __getitem__(self, index: int) -> Batch:
        order = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        images = self._images[order]
        if self._augmenter is not None:
            images = self._augmenter(images, self._batch_seed(index))
        return images, {head: target[order] for head, target in self._targets.items()}

    def _batch_seed(self, index: int) -> int:
        sequence = np.random.SeedSequence((self._seed or 0, self.epoch, index + 1))
        return int(sequence.generate_state(1)[0] >> 1)
