"""Features of a frozen backbone, computed once instead of every epoch."""

from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from person_attributes.data.batches import ImageBatches
from person_attributes.data.packs import create_array


def split_off_towers(classifier: keras.Model) -> keras.Model:
    """Gives the part behind the neck as a network of its own; it shares the classifier's layers."""
    return keras.Model(classifier.get_layer("neck").output, classifier.output, name="towers")


def cache_features(
    classifier: keras.Model, train: ImageBatches, validation: ImageBatches, path: Path
) -> tuple[ImageBatches, ImageBatches]:
    """Computes what the neck says of every image.

    It is exact where the backbone is frozen and images are not augmented: then every epoch would
    compute the same. Dropout and batch norms of the towers stay in the training.

    Args:
        classifier: The network; its backbone runs in inference mode.
        train: Training batches, not augmented.
        validation: Validation batches over the same images.
        path: The `.npy` file to write, (n, channels) float32; it is mapped, not held in memory.

    Returns:
        The same batches of features in place of images.
    """
    trunk = keras.Model(classifier.input, classifier.get_layer("neck").output, name="trunk")
    rows = np.union1d(train.positions, validation.positions)
    features = create_array(path, np.float32, (len(train.images), trunk.output.shape[-1]))
    with tqdm(total=len(rows), desc="features", unit="image", disable=None, leave=False) as bar:
        for begin in range(0, len(rows), train.batch_size):
            part = rows[begin : begin + train.batch_size]
            # Batches of one size, so that the network is traced once.
            batch = train.images[np.resize(part, train.batch_size)]
            features[part] = trunk.predict_on_batch(batch)[: len(part)]
            bar.update(len(part))
    return train.with_images(features), validation.with_images(features)
