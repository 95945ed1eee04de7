"""The served model: base64 images in, label and probability for each head out.

MLflow loads it from this code and three files; neither Keras nor a pickle is needed. It uses the
decoder, the resize and the label map that training uses, so that the two cannot drift apart.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from person_attributes.data.images import Images, decode_image, resize_image
from person_attributes.errors import ImageError
from person_attributes.labels import LabelMap

INPUT_COLUMN = "image"

MAX_MEGAPIXELS = "max_megapixels"
"""Of an image that is accepted; a key of the model's configuration."""


class InvalidImageRequest(MlflowException):
    """A request that cannot be answered, with a text that is safe to send back.

    MLflow's scoring server puts the whole input in front of the message of an exception; this one
    keeps its own, so that no image is echoed into an answer or a log.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        return self._message

    @message.setter
    def message(self, _: str) -> None:
        """Ignores what others would put in front."""


class ServedClassifier(PythonModel):
    """Answers with the exported network under ONNX Runtime."""

    def load_context(self, context: Any) -> None:
        """Loads the network and its labels, and answers once so that the first request is fast."""
        self._session = load_network(context.artifacts["network"])
        self._max_megapixels = float(context.model_config[MAX_MEGAPIXELS])
        self._label_map = LabelMap.read(Path(context.artifacts["label_map"]))
        self._image_size = int(self._session.get_inputs()[0].shape[1])
        blank = np.zeros((1, self._image_size, self._image_size, 3), np.uint8)
        run_network(self._session, blank)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, dict[str, Any]]]:
        """Answers a request.

        Args:
            context: Not used; everything is loaded before.
            model_input: A table with a column `image` of base64 strings.
            params: Not used.

        Returns:
            For each row `{head: {"label": class name, "probability": of that class}}`.

        Raises:
            InvalidImageRequest: If a value is no base64 string of an image; names the row.
        """
        values = list(model_input[INPUT_COLUMN])
        if not values:
            return []
        images = np.stack([self._decode(row, value) for row, value in enumerate(values)])
        y_prob = run_network(self._session, images)
        labels = self._label_map.decode(y_prob)
        return [
            {
                head: {
                    "label": str(labels[head].iloc[row]),
                    "probability": float(y_prob[head][row].max()),
                }
                for head in self._label_map.heads
            }
            for row in range(len(values))
        ]

    def _decode(self, row: int, value: Any) -> Any:
        if not isinstance(value, str):
            raise InvalidImageRequest(
                f"row {row}: expected an image as base64 string. Received: {type(value).__name__}."
            )
        encoded = value.partition(",")[2] if value.startswith("data:") else value
        try:
            content = base64.b64decode("".join(encoded.split()), validate=True)
            image = decode_image(content, self._max_megapixels)
            return resize_image(image, self._image_size)
        except (binascii.Error, ValueError):
            raise InvalidImageRequest(
                f"row {row}: not valid base64. Encode the image file."
            ) from None
        except ImageError as error:
            raise InvalidImageRequest(f"row {row}: {error}. Send a whole image file.") from None


def load_network(path: str) -> onnxruntime.InferenceSession:
    """Loads an exported network for the CPU."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run_network(session: onnxruntime.InferenceSession, images: Images) -> dict[str, Any]:
    """Predicts a batch: `{head: (n, classes) float32}`."""
    names = [output.name for output in session.get_outputs()]
    answers = session.run(names, {session.get_inputs()[0].name: images})
    return dict(zip(names, answers, strict=True))
