"""Where the network of a registered model looks, by the Keras weights that travel with it."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from person_attributes.config import read_params
from person_attributes.data.images import resize_image
from person_attributes.errors import RegistryError


class Attention:
    """Heat maps of the network of one version, built as that version was."""

    def __init__(self, model: str) -> None:
        """Builds the network from what travels with the model, and loads its weights.

        Args:
            model: The logged model, such as `models:/m-ID`.

        Raises:
            RegistryError: If parameters, normalization or weights are not at hand.
        """
        import keras

        from person_attributes.modeling.classifier import Normalization, build_classifier
        from person_attributes.registry.weights import fetch_weights
        from person_attributes.reporting.gradcam import GradCam

        with tempfile.TemporaryDirectory() as folder:
            weights = fetch_weights(model, Path(folder))
            params = read_params(_find(weights, "params.yaml"))
            means = json.loads(_find(weights, "normalization.json").read_text(encoding="utf-8"))
            normalization = Normalization(**means)
            self._classes = {name: head.classes for name, head in params.heads.items()}
            self._black_bars = params.data.black_bars
            self._image_size = params.phases[params.evaluation.phase].image_size
            network: keras.Model = build_classifier(
                self._image_size,
                {name: len(classes) for name, classes in self._classes.items()},
                params.model,
                normalization,
            )
            network.load_weights(weights)
        self._looker = GradCam(network)

    def explain(
        self, image: Image.Image, labels: Mapping[str, str]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Says for each head how much each place speaks for its label, from 0 to 1.

        Args:
            image: A photograph.
            labels: `{head: class name}`.

        Returns:
            `{head: (rows, columns)}` of the features' size.
        """
        images = resize_image(image, self._image_size, self._black_bars)[None]
        return {
            head: self._looker.explain(images, head, np.array([self._classes[head].index(label)]))[
                0
            ]
            for head, label in labels.items()
        }


def _find(weights: Path, name: str) -> Path:
    """Gives a file that travels beside the weights."""
    path = weights.parent / name
    if not path.exists():
        raise RegistryError(f"model: has no {name}. Register the model anew.")
    return path
