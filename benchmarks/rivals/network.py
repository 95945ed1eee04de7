"""The network of the rivals: ONNX Runtime with its own number of threads."""

import base64
import os

import numpy as np
import onnxruntime

from person_attributes.data.images import decode_image, resize_image

NETWORK = "BENCHMARK_NETWORK"
"""The environment variable with the path of the `.onnx` file."""


class RivalNetwork:
    """Predicts base64 images in one batch."""

    def __init__(self) -> None:
        """Loads the network that the environment names."""
        self._session = onnxruntime.InferenceSession(
            os.environ[NETWORK], providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0]
        self._heads = [output.name for output in self._session.get_outputs()]

    def answer(self, images: list[str]) -> list[dict[str, list[float]]]:
        """Returns `{head: probabilities}` for each image."""
        _, height, width, _ = self._input.shape
        batch = [
            resize_image(decode_image(base64.b64decode(image), 25), f"{height}x{width}", "keep")
            for image in images
        ]
        outputs = self._session.run(self._heads, {self._input.name: np.stack(batch)})
        return [
            {head: output[row].tolist() for head, output in zip(self._heads, outputs, strict=True)}
            for row in range(len(images))
        ]
