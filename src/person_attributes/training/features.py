"""Caches the features of a frozen backbone, to compute them once instead of every epoch."""

from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from person_attributes.data.batches import ImageBatches
from person_attributes.data.packs import create_array


def split_off_towers(classifier: keras.Model) -> keras.Model:
    """Makes a network of the layers after the neck; it shares the classifier's layers."""
    return keras.Model(classifier.get_layer("neck").output, classifier.output, name="towers")


def cache_features(
    classifier: keras.Model, train: ImageBatches, validation: ImageBatches, path: Path
) -> tuple[ImageBatches, ImageBatches]:
    """Computes the output of the neck for every image.

    The result is exact if the backbone is frozen and images are not augmented: every epoch would
    compute the same features. Dropout and batch norms of the towers still train.

    Args:
        classifier: The network; its backbone runs in inference mode.
        train: Training batches, not augmented.
        validation: Validation batches over the same images.
        path: The `.npy` file to write, (n, channels) float32; it is memory-mapped.

    Returns:
        The training and validation batches, with features in place of images.
    """
    trunk = keras.Model(classifier.input, classifier.get_layer("neck").output, name="trunk")
    rows = np.union1d(train.positions, validation.positions)
    features = create_array(path, np.float32, (len(train.images), trunk.output.shape[-1]))
    with tqdm(total=len(rows), desc="features", unit="image", disable=None, leave=False) as bar:
        for begin in range(0, len(rows), train.batch_size):
            part = rows[begin : begin + train.batch_size]
            # All batches have one size, so that the network is traced once.
            batch = train.images[np.resize(part, train.batch_size)]
            features[part] = trunk.predict_on_batch(batch)[: len(part)]
            bar.update(len(part))
    return train.with_images(features), validation.with_images(features)
