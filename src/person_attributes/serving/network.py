"""The exported network in ONNX Runtime."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from person_attributes.data.images import Images


class Network:
    """An exported network on the CPU. It is thread-safe."""

    def __init__(self, path: Path) -> None:
        """Loads an `.onnx` file and runs it once, because the first run is slow."""
        options = onnxruntime.SessionOptions()
        # Hides warnings about models that are already optimized.
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0]
        self._heads = [output.name for output in self._session.get_outputs()]
        self.predict(np.zeros((1, *self._input.shape[1:]), np.uint8))

    @property
    def input_name(self) -> str:
        """The name of the input."""
        return str(self._input.name)

    @property
    def image_size(self) -> str:
        """Height and width of the images in pixels, such as 128x64."""
        _, height, width, _ = self._input.shape
        return f"{height}x{width}"

    def predict(self, images: Images) -> dict[str, npt.NDArray[np.float32]]:
        """Predicts images one by one, each on all cores.

        In a batch, the last digits of a prediction depend on the other images. A batch is hardly
        faster here.

        Args:
            images: (n, height, width, 3) uint8.

        Returns:
            Probabilities, `{head: (n, classes) float32}`.
        """
        answers = [
            self._session.run(self._heads, {self._input.name: image[None]}) for image in images
        ]
        return {
            head: np.concatenate([answer[number] for answer in answers])
            for number, head in enumerate(self._heads)
        }
