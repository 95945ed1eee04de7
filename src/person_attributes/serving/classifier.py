"""The served model: takes images, and returns the label and probability of each head.

MLflow loads it from this code and two files, without Keras and without a pickle. Its decoder,
resize and label map are those of training, so the two cannot differ.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.pyfunc.model import PythonModel

from person_attributes.data.images import Images, resize_image
from person_attributes.framing import BlackBars
from person_attributes.labels import LabelMap
from person_attributes.serving.endpoint import guard_endpoint, is_served
from person_attributes.serving.network import Network
from person_attributes.serving.requests import (
    FAIL,
    INPUT_COLUMN,
    Limits,
    RefusedRequest,
    RequestOptions,
    RowError,
    read_image,
)


class ServedClassifier(PythonModel):
    """Runs the exported network in ONNX Runtime."""

    def load_context(self, context: Any) -> None:
        """Reads the label map, and loads the network in the background while the server starts."""
        self.black_bars: BlackBars = context.model_config["black_bars"]
        self._limits = Limits(**context.model_config["limits"])
        self._label_map = LabelMap.read(Path(context.artifacts["label_map"]))
        loader = ThreadPoolExecutor(1, thread_name_prefix="load-network")
        self._network: Future[Network] = loader.submit(Network, Path(context.artifacts["network"]))
        loader.shutdown(wait=False)
        guard_endpoint(self._limits)

    @property
    def label_map(self) -> LabelMap:
        """The served heads and their classes."""
        return self._label_map

    @property
    def network(self) -> Network:
        """The network. Waits until it is loaded."""
        return self._network.result()

    def answer(self, images: Images) -> list[dict[str, dict[str, Any]]]:
        """Predicts decoded images of the network's size.

        Args:
            images: (n, height, width, 3) uint8.

        Returns:
            For each image `{head: {"label": class name, "probability": in [0, 1]}}`.
        """
        options = RequestOptions.read(None, self._label_map.heads)
        y_prob = self.network.predict(images)
        return [
            {
                head: _describe(self._label_map.classes[head], answers[row], options)
                for head, answers in y_prob.items()
            }
            for row in range(len(images))
        ]

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answers a request.

        Args:
            context: Not used.
            model_input: A table with a column `image` of base64 strings, or of bytes.
            params: See `serving.requests.DEFAULTS`.

        Returns:
            One row per image. Each head has a column of `{"label": class name, "probability": in
            [0, 1]}`, with `top` and `probabilities` if requested. The columns `error` and `reason`
            are empty unless the image is invalid.

        Raises:
            RefusedRequest: If a parameter is invalid, a limit is exceeded, or an image is invalid
                and `on_error` is `fail`. The message names the row.
        """
        options = RequestOptions.read(params, self._label_map.heads)
        values = self._read_values(model_input)
        images, errors = [], {}
        for row, value in enumerate(values):
            try:
                images.append(self._prepare(value))
            except RowError as error:
                if options.on_error == FAIL:
                    raise RefusedRequest(f"row {row}: {error}") from None
                errors[row] = error
        y_prob = self._run(np.stack(images)) if images else {}
        return self._build_table(len(values), y_prob, errors, options)

    def _prepare(self, value: Any) -> npt.NDArray[np.uint8]:
        image = read_image(value, self._limits)
        return resize_image(image, self._require_network().image_size, self.black_bars)

    def _run(self, images: Images) -> dict[str, npt.NDArray[np.float32]]:
        try:
            return self._require_network().predict(images)
        except RefusedRequest:
            raise
        except Exception:  # ONNX Runtime raises its own types; the request is not the cause
            raise RefusedRequest("the network failed. Try again.", INTERNAL_ERROR) from None

    def _require_network(self) -> Network:
        try:
            return self.network
        except Exception:
            raise RefusedRequest(
                "the model's network cannot be loaded. Serve another version.", INTERNAL_ERROR
            ) from None

    def _read_values(self, model_input: Any) -> list[Any]:
        columns = list(getattr(model_input, "columns", []))
        if INPUT_COLUMN not in columns:
            raise RefusedRequest(
                f"expected a column {INPUT_COLUMN!r} of images as base64 strings. "
                "Received: no such column."
            )
        values = list(model_input[INPUT_COLUMN])
        if len(values) == 1 and isinstance(values[0], list | np.ndarray):
            values = list(values[0])  # MLflow parses {"inputs": {"image": [...]}} this way
        if is_served() and len(values) > self._limits.rows:  # Spark passes thousands of rows
            raise RefusedRequest(
                f"{len(values)} rows. Expected at most {self._limits.rows}. Send fewer rows per "
                "request."
            )
        return values

    def _build_table(
        self,
        rows: int,
        y_prob: dict[str, npt.NDArray[np.float32]],
        errors: dict[int, RowError],
        options: RequestOptions,
    ) -> pd.DataFrame:
        valid = [row for row in range(rows) if row not in errors]
        table: dict[str, list[Any]] = {}
        for head in options.heads:
            column: list[Any] = [{"label": None, "probability": None} for _ in range(rows)]
            for row, answer in zip(valid, y_prob.get(head, ()), strict=True):
                column[row] = _describe(self._label_map.classes[head], answer, options)
            table[head] = column
        table["error"] = [errors[row].kind if row in errors else "" for row in range(rows)]
        table["reason"] = [str(errors[row]) if row in errors else "" for row in range(rows)]
        # As objects: pandas would convert None to NaN, which is not valid JSON.
        return pd.DataFrame(table, dtype=object)


def _describe(
    classes: Sequence[str], y_prob: npt.NDArray[np.float32], options: RequestOptions
) -> dict[str, Any]:
    """Builds the answer of one head for one image from its probabilities, (classes,)."""
    order = np.argsort(-y_prob, kind="stable")
    best = int(order[0])
    answer: dict[str, Any] = {"label": classes[best], "probability": float(y_prob[best])}
    if options.top_k:
        answer["top"] = [
            {"label": classes[number], "probability": float(y_prob[number])}
            for number in order[: options.top_k]
        ]
    if options.all_probabilities:
        answer["probabilities"] = dict(zip(classes, map(float, y_prob), strict=True))
    return answer
