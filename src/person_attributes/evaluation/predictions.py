"""Probabilities of a network over rows of a pack."""

from collections.abc import Mapping

import keras
import numpy as np
import numpy.typing as npt

from person_attributes.data.batches import ImageBatches

Probabilities = Mapping[str, npt.NDArray[np.float32]]
"""`{head: (n, classes) float32}`; rows sum to 1."""


def predict_batches(classifier: keras.Model, batches: ImageBatches) -> Probabilities:
    """Predicts every row of the batches, in their order, the last partial batch included."""
    y_prob: Probabilities = classifier.predict(batches, verbose=0)
    return y_prob
