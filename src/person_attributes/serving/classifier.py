"""The served model: images in, label and probability for each head out.

MLflow loads it from this code and three files; neither Keras nor a pickle is needed. It uses the
decoder, the resize and the label map that training uses, so that the two cannot drift apart.
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
    """Answers with the exported network under ONNX Runtime."""

    def load_context(self, context: Any) -> None:
        """Reads the labels, and has the network loaded while the endpoint opens."""
        self.black_bars: BlackBars = context.model_config["black_bars"]
        self._limits = Limits(**context.model_config["limits"])
        self._label_map = LabelMap.read(Path(context.artifacts["label_map"]))
        with_network = ThreadPoolExecutor(1, thread_name_prefix="load-network")
        self._network: Future[Network] = with_network.submit(
            Network, Path(context.artifacts["network"])
        )
        with_network.shutdown(wait=False)
        guard_endpoint(self._limits)

    @property
    def label_map(self) -> LabelMap:
        """The heads that it answers, and their classes."""
        return self._label_map

    @property
    def network(self) -> Network:
        """The network, once it is loaded."""
        return self._network.result()

    def answer(self, images: Images) -> list[dict[str, dict[str, Any]]]:
        """Answers images that are decoded and of the network's size.

        Returns:
            For each image `{head: {"label": class name, "probability": of that class}}`.
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
            context: Not used; everything is loaded before.
            model_input: A table with a column `image` of base64 strings, or of bytes.
            params: See `serving.requests.DEFAULTS`.

        Returns:
            One row an image, one column a head with `{"label": class name, "probability": of
            that class}`; with `top` and `probabilities` where they were asked for. The columns
            `error` and `reason` are empty unless the row could not be answered.

        Raises:
            RefusedRequest: If the request asks for what there is not, holds too much, or has a bad
                row and `on_error` is `fail`; names the row.
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
        return self._tell(len(values), y_prob, errors, options)

    def _prepare(self, value: Any) -> npt.NDArray[np.uint8]:
        image = read_image(value, self._limits)
        return resize_image(image, self._require_network().image_size, self.black_bars)

    def _run(self, images: Images) -> dict[str, npt.NDArray[np.float32]]:
        try:
            return self._require_network().predict(images)
        except RefusedRequest:
            raise
        except Exception:  # of ONNX Runtime's own kinds: no fault of the request
            raise RefusedRequest("the network failed. Ask again.", INTERNAL_ERROR) from None

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
                "Received: none of that name."
            )
        values = list(model_input[INPUT_COLUMN])
        if len(values) == 1 and isinstance(values[0], list | np.ndarray):
            values = list(values[0])  # what MLflow makes of {"inputs": {"image": [...]}}
        if is_served() and len(values) > self._limits.rows:  # Spark sends thousands
            raise RefusedRequest(
                f"{len(values)} rows. Expected at most {self._limits.rows}. Send fewer at once."
            )
        return values

    def _tell(
        self,
        rows: int,
        y_prob: dict[str, npt.NDArray[np.float32]],
        errors: dict[int, RowError],
        options: RequestOptions,
    ) -> pd.DataFrame:
        good = [row for row in range(rows) if row not in errors]
        table: dict[str, list[Any]] = {}
        for head in options.heads:
            column: list[Any] = [{"label": None, "probability": None} for _ in range(rows)]
            for row, answer in zip(good, y_prob.get(head, ()), strict=True):
                column[row] = _describe(self._label_map.classes[head], answer, options)
            table[head] = column
        table["error"] = [errors[row].kind if row in errors else "" for row in range(rows)]
        table["reason"] = [str(errors[row]) if row in errors else "" for row in range(rows)]
        # As objects: pandas would turn what is empty into NaN, which is no JSON.
        return pd.DataFrame(table, dtype=object)


def _describe(
    classes: Sequence[str], y_prob: npt.NDArray[np.float32], options: RequestOptions
) -> dict[str, Any]:
    """Words the probabilities of one head, (classes,), for one image."""
    order = np.argsort(-y_prob, kind="stable")
    best = int(order[0])
    said: dict[str, Any] = {"label": classes[best], "probability": float(y_prob[best])}
    if options.top_k:
        said["top"] = [
            {"label": classes[number], "probability": float(y_prob[number])}
            for number in order[: options.top_k]
        ]
    if options.all_probabilities:
        said["probabilities"] = dict(zip(classes, map(float, y_prob), strict=True))
    return said
