"""A rival of the served model: Keras' `predict` in an MLflow pyfunc, as in tutorials."""

import base64
import io
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel
from PIL import Image


class KerasClassifier(PythonModel):
    """Predicts with Keras."""

    def load_context(self, context: Any) -> None:
        """Loads the `.keras` file."""
        import keras

        self._network = keras.models.load_model(context.artifacts["network"], compile=False)
        self._image_size = self._network.input_shape[1]

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, list[float]]]:
        """Returns `{head: probabilities}` for each row."""
        size = (self._image_size, self._image_size)
        images = [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(value))).convert("RGB").resize(size))
            for value in model_input["image"]
        ]
        answers = self._network.predict(np.stack(images), verbose=0)
        return [
            {head: answers[head][row].tolist() for head in answers} for row in range(len(images))
        ]


mlflow.models.set_model(KerasClassifier())
