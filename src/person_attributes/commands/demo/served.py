"""A registered model of the demo, called in the same way as its server calls it."""

import base64
import io
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.exceptions import MlflowException
from PIL import Image

from person_attributes.commands.demo.attention import Attention
from person_attributes.data.images import decode_image
from person_attributes.errors import RegistryError, one_line
from person_attributes.registry.model import load_model
from person_attributes.tracking.connection import connect
from person_attributes.workspace import Workspace

_PARAMS = {"all_probabilities": True, "on_error": "answer"}
_NOT_HEADS = ("error", "reason")

_SHOWN_PIXELS = 720
"""Longest side of a heat map in pixels."""


@dataclass(frozen=True)
class Answer:
    """The model's answer for one photograph.

    Attributes:
        heads: `{head: {"label", "probability", "probabilities"}}`; empty if refused.
        reason: The reason of a refusal in one sentence, else empty.
    """

    heads: dict[str, dict[str, Any]]
    reason: str = ""


class Served:
    """A registered model and its heat maps.

    Attributes:
        name: The URI of the model, as the user wrote it.
    """

    def __init__(self, name: str, workspace: Workspace) -> None:
        """Loads the model and tests it with one image.

        Args:
            name: A URI such as `models:/person-attributes@champion`.
            workspace: The project; its store has the model.

        Raises:
            RegistryError: If there is no such model, or its answers have another format. Register
                it again.
        """
        connect(workspace)
        self.name = name
        self._attention: Attention | None = None
        self._classifier = load_model(name)
        self._require_answers()

    def ask(self, content: bytes) -> Answer:
        """Returns the answer for the bytes of an image file."""
        image = base64.b64encode(content).decode()
        try:
            row = self._classifier.predict(pd.DataFrame({"image": [image]}), params=_PARAMS).iloc[0]
        except MlflowException as error:
            return Answer({}, one_line(error.message, 300))
        if row["error"]:
            return Answer({}, row["reason"])
        return Answer({head: row[head] for head in row.index if head not in _NOT_HEADS})

    def explain(self, content: bytes) -> dict[str, str]:
        """Computes the heat map of each head over the image.

        Returns:
            `{head: data URL of a JPEG}`; empty if the version has no heat maps.
        """
        from person_attributes.reporting.plots import overlay_heatmap

        labels = {head: answer["label"] for head, answer in self.ask(content).heads.items()}
        if not labels:
            return {}
        image = decode_image(content, np.inf)  # the model has checked its size
        shown = image.copy()
        shown.thumbnail((_SHOWN_PIXELS, _SHOWN_PIXELS))
        try:
            heats = self._load_attention().explain(image, labels)
        except Exception as error:  # a version of another Keras may fail; the answer stays valid
            print(f"demo: {self.name}: no heat maps: {one_line(error, 300)}", file=sys.stderr)
            return {}
        return {
            head: _to_data_url(overlay_heatmap(np.asarray(shown), heat))
            for head, heat in heats.items()
        }

    def _load_attention(self) -> Attention:
        """Loads the network for heat maps once; the first call imports Keras, which is slow."""
        if self._attention is None:
            self._attention = Attention(f"models:/{self._classifier.metadata.model_id}")
        return self._attention

    def _require_answers(self) -> None:
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (128, 128, 128)).save(buffer, "PNG")
        try:
            answer = self.ask(buffer.getvalue())
        except (AttributeError, KeyError):  # older versions answered with a list
            answer = Answer({}, "Received: another format.")
        if not answer.heads:
            raise RegistryError(
                f"{self.name}: expected a table with the probabilities of all classes. "
                f"{answer.reason} Register it again: dvc repro --force --single-item register."
            )


def _to_data_url(image: npt.NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
