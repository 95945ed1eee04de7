"""Computes heat maps of a registered model, from the Keras weights among its files."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from person_attributes.config import Params, read_params
from person_attributes.data.images import resize_image
from person_attributes.errors import ParamsError, RegistryError
from person_attributes.runtime.keras_import import import_keras


class Attention:
    """Computes heat maps of a model, rebuilt with the parameters of its version."""

    def __init__(self, model: str) -> None:
        """Rebuilds each network of the model from its files, and loads the weights.

        Args:
            model: The URI of the logged model, such as `models:/m-ID`.

        Raises:
            RegistryError: If parameters, normalization or weights are missing. Register it again.
        """
        import_keras()
        from person_attributes.modeling.classifier import Normalization, build_classifier
        from person_attributes.registry.weights import fetch_member_weights
        from person_attributes.reporting.gradcam import GradCam

        with tempfile.TemporaryDirectory() as folder:
            weights = fetch_member_weights(model, Path(folder))
            params = _read_params(_find(weights, "params.yaml"), model)
            content = json.loads(_find(weights, "normalization.json").read_text(encoding="utf-8"))
            normalization = Normalization(**content)
            self._classes = {name: head.classes for name, head in params.heads.items()}
            self._black_bars = params.data.black_bars
            self._image_size = params.evaluated_image_size
            class_counts = {name: len(classes) for name, classes in self._classes.items()}
            members = [
                build_classifier(self._image_size, class_counts, params.model, normalization)
                for _ in weights
            ]
            for member, path in zip(members, weights, strict=True):
                member.load_weights(path)
        self._grad_cam = GradCam(*members)

    def explain(
        self, image: Image.Image, labels: Mapping[str, str]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Computes the Grad-CAM heat map of the label of each head.

        Args:
            image: A photograph.
            labels: The predicted classes, `{head: class name}`.

        Returns:
            `{head: (rows, columns)}` in [0, 1], of the size of the feature maps.
        """
        images = resize_image(image, self._image_size, self._black_bars)[None]
        indices = {head: self._classes[head].index(label) for head, label in labels.items()}
        return {
            head: self._grad_cam.explain(images, head, np.array([index]))[0]
            for head, index in indices.items()
        }


def _find(weights: Sequence[Path], name: str) -> Path:
    """Returns the path of a file beside the weights."""
    path = weights[0].with_name(name)
    if not path.exists():
        raise RegistryError(f"model: has no {name}. Register the model again.")
    return path


def _read_params(path: Path, model: str) -> Params:
    """Reads the parameters of a version.

    Raises:
        RegistryError: If another release wrote them. Register the model again.
    """
    try:
        return read_params(path)
    except ParamsError:
        raise RegistryError(
            f"{model}: its parameters are those of another release. Run dvc repro to register the "
            "model again."
        ) from None
