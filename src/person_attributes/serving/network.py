"""The exported network under ONNX Runtime."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from person_attributes.data.images import Images


class Network:
    """An exported network on the processor; several threads may ask it at once."""

    def __init__(self, path: Path) -> None:
        """Loads an `.onnx` file and answers once, since the first answer is slow."""
        options = onnxruntime.SessionOptions()
        # What it says of a model that it has optimised before helps nobody.
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0]
        self._heads = [output.name for output in self._session.get_outputs()]
        self.predict(np.zeros((1, *self._input.shape[1:]), np.uint8))

    @property
    def input_name(self) -> str:
        """The name of its input."""
        return str(self._input.name)

    @property
    def image_size(self) -> str:
        """Height and width of its images in pixels, such as 128x64."""
        _, height, width, _ = self._input.shape
        return f"{height}x{width}"

    def predict(self, images: Images) -> dict[str, npt.NDArray[np.float32]]:
        """Predicts images: `{head: (n, classes) float32}` of probabilities.

        Each is computed by itself, on all cores: in a batch, its last digits would depend on the
        others, and the same image would be answered in two ways. A batch is hardly faster here.
        """
        answers = [
            self._session.run(self._heads, {self._input.name: image[None]}) for image in images
        ]
        return {
            head: np.concatenate([answer[number] for answer in answers])
            for number, head in enumerate(self._heads)
        }
