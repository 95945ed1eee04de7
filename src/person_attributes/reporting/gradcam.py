"""Grad-CAM heat maps: Selvaraju et al., Grad-CAM: Visual Explanations, 2017."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from person_attributes.data.images import Images
from person_attributes.modeling.necks import NECK


class GradCam:
    """Computes heat maps for networks of `build_classifier`, on every Keras backend.

    The map of an ensemble is the mean of the maps of its members.
    """

    def __init__(self, *members: keras.Model) -> None:
        self._members = [_Member(classifier) for classifier in members]

    def explain(
        self, images: Images, head: str, classes: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Computes how much each image region contributes to the logit of a class.

        Args:
            images: (n, height, width, 3) uint8 RGB at the input size of the network.
            head: Name of the head.
            classes: (n,) number of the class to explain for each image.

        Returns:
            (n, rows, columns) float32 in [0, 1] at the resolution of the feature map. The maximum
            of each map is 1, or 0 if no region has a positive contribution.
        """
        maps = [_scale(member.explain(images, head, classes)) for member in self._members]
        return _scale(np.mean(maps, axis=0))


def _scale(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Divides each map by its maximum, unless it is 0."""
    peaks = maps.max(axis=(1, 2), keepdims=True)
    scaled: npt.NDArray[np.float32] = (maps / np.where(peaks > 0, peaks, 1)).astype(np.float32)
    return scaled


class _Member:
    """Computes heat maps for one network."""

    def __init__(self, classifier: keras.Model) -> None:
        # Layers are in graph order: the first neck layer receives the features.
        neck = next(layer for layer in classifier.layers if layer.name.startswith(NECK))
        self._trunk = keras.Model(classifier.input, neck.input)
        self._towers = {
            head: keras.Model(neck.input, classifier.get_layer(head).input)
            for head in classifier.output
        }
        self._layers = {head: classifier.get_layer(head) for head in classifier.output}

    def explain(
        self, images: Images, head: str, classes: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Computes the contributions, (n, rows, columns), at least 0 and of any scale."""
        features = self._trunk(images, training=False)
        tower, kernel = self._towers[head], self._layers[head].kernel
        columns = ops.transpose(ops.take(kernel, classes, axis=1))

        def logits(values: Any) -> Any:
            # The bias is constant and has no gradient.
            return ops.sum(tower(values, training=False) * columns)

        gradients = ops.convert_to_numpy(_differentiate(logits, features))
        weights = gradients.mean(axis=(1, 2), keepdims=True)
        maps: npt.NDArray[np.float32] = (weights * ops.convert_to_numpy(features)).sum(axis=-1)
        return np.maximum(maps, 0)


def _differentiate(function: Any, values: Any) -> Any:
    """Computes the gradient of a scalar function; Keras has no API for all backends."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.grad(function)(values)
    if backend == "torch":
        leaf = values.detach().requires_grad_()
        function(leaf).backward()
        return leaf.grad
    import tensorflow

    with tensorflow.GradientTape() as tape:
        tape.watch(values)
        total = function(values)
    return tape.gradient(total, values)
