"""The served model: takes images, and returns the label and probability of each head.

MLflow loads it from this code and two files, without Keras and without a pickle. Its decoder,
resize and label map are those of training, so the two cannot differ.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.pyfunc.model import PythonModel
from PIL import Image

from person_attributes.data.images import resize_image
from person_attributes.framing import BlackBars
from person_attributes.labels import LabelMap
from person_attributes.serving.bodies import read_request
from person_attributes.serving.endpoint import encode_answers, guard_endpoint
from person_attributes.serving.network import Network, Probabilities
from person_attributes.serving.requests import (
    FAIL,
    INPUT_COLUMN,
    Limits,
    RefusedRequest,
    Request,
    RequestOptions,
)
from person_attributes.serving.row_pool import RowPool
from person_attributes.serving.rows import RowError, read_image
from person_attributes.serving.threads import count_threads

Answer = dict[str, Any]
"""The answer for an image: an object per head, `error` and `reason`."""


class ServedClassifier(PythonModel):
    """Runs the exported network in ONNX Runtime."""

    def load_context(self, context: Any) -> None:
        """Reads the label map, and loads the network in the background while the server starts."""
        self._black_bars: BlackBars = context.model_config["black_bars"]
        self._limits = Limits(**context.model_config["limits"])
        self._label_map = LabelMap.read(Path(context.artifacts["label_map"]))
        self._rows = RowPool(count_threads())
        loader = ThreadPoolExecutor(1, thread_name_prefix="load-network")
        self._network: Future[Network] = loader.submit(Network, Path(context.artifacts["network"]))
        loader.shutdown(wait=False)
        guard_endpoint()

    @property
    def label_map(self) -> LabelMap:
        """The served heads and their classes."""
        return self._label_map

    @property
    def limits(self) -> Limits:
        """The limits of a request."""
        return self._limits

    @property
    def network(self) -> Network:
        """The network. Waits until it is loaded.

        Raises:
            RefusedRequest: If it cannot be loaded.
        """
        try:
            return self._network.result()
        except Exception:  # ONNX Runtime raises its own types
            raise RefusedRequest(
                "the model's network cannot be loaded. Serve another version.", status=500
            ) from None

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answers a request from Python.

        Args:
            context: Not used.
            model_input: A table with a column `image` of base64 strings, or of bytes.
            params: See `RequestOptions`.

        Returns:
            One row per image. Each head has a column of `{"label": class name, "probability": in
            [0, 1]}`, with `top` and `probabilities` if requested. The columns `error` and `reason`
            are empty unless the image is invalid.

        Raises:
            RefusedRequest: If a parameter is invalid, or an image is invalid and `on_error` is
                `fail`. The message names the row.
        """
        request = Request(_read_column(model_input), RequestOptions.read(params))
        columns = [*request.options.select(self._label_map.heads), "error", "reason"]
        # As objects: pandas would convert None to NaN, which is not valid JSON.
        return pd.DataFrame(self.answer(request), columns=columns, dtype=object)

    def answer_body(
        self, body: bytes, content_type: str | None, is_given_up: Callable[[], bool]
    ) -> bytes:
        """Answers the body of a request.

        Args:
            body: See `read_request`.
            content_type: Its content type.
            is_given_up: Whether nobody waits for the answer any more.

        Returns:
            The answers as JSON.

        Raises:
            RefusedRequest: If the request is refused.
        """
        request = read_request(body, content_type, self._limits)
        return encode_answers(self.answer(request, is_given_up))

    def answer(
        self, request: Request, is_given_up: Callable[[], bool] = lambda: False
    ) -> list[Answer]:
        """Answers a request. Several threads may call this at once.

        Args:
            request: The images and the options.
            is_given_up: Whether nobody waits for the answer any more. It is asked before each row.

        Returns:
            The answer of each row.

        Raises:
            RefusedRequest: If an image is invalid and `on_error` is `fail`, a head is unknown, the
                network fails, or the request is given up.
        """
        request.options.select(self._label_map.heads)

        def answer_row(item: tuple[int, Any], all_cores: bool) -> Answer:
            if is_given_up():
                raise RefusedRequest("the request took too long. Send fewer rows.", status=503)
            row, value = item
            try:
                image = read_image(value, self._limits, self.resize)
            except RowError as error:
                if request.options.on_error == FAIL:
                    raise RefusedRequest(f"row {row}: {error}") from None
                return self.describe_error(error, request.options)
            return self.describe(self.score(image, all_cores), request.options)

        return list(self._rows.map(answer_row, list(enumerate(request.values))))

    def resize(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Resizes a decoded image for the network."""
        return resize_image(image, self.network.image_size, self._black_bars)

    def score(self, image: npt.NDArray[np.uint8], all_cores: bool) -> Probabilities:
        """Predicts a resized image. See `Network.predict_image`.

        Raises:
            RefusedRequest: If the network fails.
        """
        network = self.network
        try:
            return network.predict_image(image, all_cores)
        except Exception:  # ONNX Runtime raises its own types; the request is not the cause
            raise RefusedRequest("the network failed. Try again.", status=500) from None

    def describe(self, y_prob: Probabilities, options: RequestOptions) -> Answer:
        """Builds the answer for an image from its probabilities."""
        answer: Answer = {
            head: _describe_head(self._label_map.classes[head], y_prob[head], options)
            for head in options.select(self._label_map.heads)
        }
        return answer | {"error": "", "reason": ""}

    def describe_error(self, error: RowError, options: RequestOptions) -> Answer:
        """Builds the answer for an invalid image."""
        heads = options.select(self._label_map.heads)
        answer: Answer = {head: {"label": None, "probability": None} for head in heads}
        return answer | {"error": error.kind, "reason": str(error)}


def _read_column(model_input: Any) -> list[Any]:
    if INPUT_COLUMN not in list(getattr(model_input, "columns", [])):
        raise RefusedRequest(
            f"expected a column {INPUT_COLUMN!r} of images as base64 strings. "
            "Received: no such column."
        )
    values = list(model_input[INPUT_COLUMN])
    if len(values) == 1 and isinstance(values[0], list | np.ndarray):
        return list(values[0])  # MLflow parses {"image": [...]} this way
    return values


def _describe_head(
    classes: Sequence[str], y_prob: npt.NDArray[np.float32], options: RequestOptions
) -> dict[str, Any]:
    """Builds the answer of one head for one image from its probabilities, (classes,)."""
    probabilities = y_prob.tolist()
    best = int(y_prob.argmax())
    answer: dict[str, Any] = {"label": classes[best], "probability": probabilities[best]}
    if options.top_k:
        order = np.argsort(-y_prob, kind="stable")[: int(options.top_k)]
        answer["top"] = [
            {"label": classes[number], "probability": probabilities[number]} for number in order
        ]
    if options.all_probabilities:
        answer["probabilities"] = dict(zip(classes, probabilities, strict=True))
    return answer
