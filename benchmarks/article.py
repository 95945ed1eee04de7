"""A rival: the data path and the training of the article's notebook, reimplemented.

Its batches are rows of a DataFrame. In every epoch it reads images by `cv2.imread`, resizes them,
converts them to float64, and augments them by `ImageDataGenerator` with random erasing.
"""

from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from keras.src.legacy.preprocessing.image import ImageDataGenerator


class ArticleBatches(keras.utils.PyDataset):
    """The notebook's generator."""

    def __init__(
        self,
        folder: Path,
        table: pd.DataFrame,
        targets: dict[str, npt.NDArray[np.float32]],
        image_size: int,
        batch_size: int,
        is_augmented: bool,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._table = table.reset_index(drop=True)
        self._targets = targets
        self._image_size = image_size
        self._batch_size = batch_size
        self._augmenter = ImageDataGenerator(
            horizontal_flip=True,
            # Keras 3 shifts rows by the width's range, and columns by the height's.
            width_shift_range=0.1,
            height_shift_range=0.2,
            zoom_range=0.2,
            preprocessing_function=erase_randomly,
        )
        self._is_augmented = is_augmented

    def __len__(self) -> int:
        return len(self._table) // self._batch_size

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[Any]]]:
        rows = slice(index * self._batch_size, (index + 1) * self._batch_size)
        images = []
        for _, row in self._table.iloc[rows].iterrows():
            image = cv2.imread(str(self._folder / row["image_path"]))
            images.append(cv2.resize(image, (self._image_size, self._image_size)) / 255.0)
        batch = np.array(images)
        if self._is_augmented:
            batch = next(self._augmenter.flow(batch, batch_size=len(batch), shuffle=False))
        return batch, {head: target[rows] for head, target in self._targets.items()}

    def on_epoch_end(self) -> None:
        order = np.random.permutation(len(self._table))
        self._table = self._table.iloc[order].reset_index(drop=True)
        self._targets = {head: target[order] for head, target in self._targets.items()}


def erase_randomly(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Fills a rectangle of half of the images with one value (Zhong et al. 2017)."""
    if np.random.rand() > 0.5:
        return image
    height, width, _ = image.shape
    while True:
        area = np.random.uniform(0.01, 0.2) * height * width
        aspect = np.random.uniform(0.1, 1.0)
        box_width, box_height = int(np.sqrt(area / aspect)), int(np.sqrt(area * aspect))
        left, top = np.random.randint(0, width), np.random.randint(0, height)
        if left + box_width <= width and top + box_height <= height:
            break
    image[top : top + box_height, left : left + box_width] = np.random.uniform(0, 1)
    return image


def build_network(image_size: int, class_counts: dict[str, int]) -> keras.Model:
    """Builds DenseNet121 with one tower per head, like the notebook."""
    backbone = keras.applications.DenseNet121(
        weights=None, include_top=False, input_shape=(image_size, image_size, 3)
    )
    vector = keras.layers.GlobalAveragePooling2D()(backbone.output)
    outputs = {}
    for head, classes in class_counts.items():
        tower = keras.layers.BatchNormalization()(vector)
        tower = keras.layers.Dropout(0.1)(tower)
        tower = keras.layers.Dense(128, activation="relu")(tower)
        outputs[head] = keras.layers.Dense(classes, activation="softmax", name=head)(tower)
    return keras.Model(backbone.input, outputs)


def compile_network(network: keras.Model, learning_rate: float) -> None:
    """Compiles the network like the notebook."""
    heads = list(network.output)
    network.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=dict.fromkeys(heads, "categorical_crossentropy"),
        metrics={head: ["accuracy"] for head in heads},
        jit_compile=False,
    )
