"""Batches for Keras; each is a pure function of seed, epoch and batch number."""

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
"""Images, one-hot targets, and sample weights, which are 0 where a label is missing."""


class ImageBatches(keras.utils.PyDataset):
    """A `PyDataset` over rows of a pack.

    This class shuffles rows instead of `fit`, because Keras shuffles by a counter that restarts at
    0 after a resume, and reads two batches before the first epoch. Call `fit` with `shuffle=False`
    and set `epoch` before each epoch.

    If rows are shuffled, the last batch is completed with the first rows of the epoch. Otherwise, a
    few rows would weigh as much as a whole batch, with noisy statistics in batch normalization.

    A target of all zeros is a missing label, with weight 0. The other rows of that head get a
    higher weight, so that the loss of the head is the mean over its labels.

    Attributes:
        images: (n, ...) images or features, aligned with the pack.
        targets: `{head: (n, classes)}`, aligned with `images`.
        positions: Positions of the rows to serve.
        batch_size: Images per batch. Without shuffling, the last batch may be smaller; so is the
            only one of fewer rows.
        first_batch: The first batch of the epoch; above 0 to resume within an epoch.
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
        """Defines the batches without reading images.

        Args:
            images: (n, height, width, 3) uint8, usually mapped from the disk.
            targets: `{head: (n, classes) float32}`, aligned with `images`; a missing label is all
                zeros.
            positions: Positions of the rows to serve.
            batch_size: Images per batch.
            augmenter: Augments images; None for no augmentation.
            mixer: Mixes images and targets within a batch; None for no mixing.
            seed: Seed of shuffling and augmentation; None keeps the order of `positions`.
            workers: Processes that prepare batches; 0 uses a thread. The batches are the same.
        """
        if multiprocessing.get_start_method() != "fork":
            workers = 0  # a spawned process, as on macOS, would need a copy of all images
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
        """The epoch to serve; setting it shuffles the rows."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = self.positions
        if self._seed is not None:
            order = np.random.default_rng((self._seed, epoch)).permutation(self.positions)
            if len(order) > self.batch_size:
                order = np.resize(order, self.batches * self.batch_size)
            self._order = order

    @property
    def rows(self) -> int:
        """Number of images in a whole epoch."""
        return len(self._order)

    @property
    def batches(self) -> int:
        """Number of batches in a whole epoch."""
        return math.ceil(len(self.positions) / self.batch_size)

    @property
    def is_augmented(self) -> bool:
        """Whether images differ between epochs."""
        return self._augmenter is not None or self._mixer is not None

    def with_images(self, images: npt.NDArray[Any]) -> Self:
        """Returns the same batches of other images or of features, without augmentation."""
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
    """Returns sample weights: 0 without a label, else rows divided by labels of `positions`."""
    is_labelled = target.max(axis=1) > 0
    labels = max(int(is_labelled[positions].sum()), 1)
    weights: npt.NDArray[np.float32] = (is_labelled * (len(positions) / labels)).astype(np.float32)
    return weights
