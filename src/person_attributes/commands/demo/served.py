"""The registered model of the demo, called in the same way as its server calls it."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from PIL import Image

from person_attributes.commands.demo.attention import Attention
from person_attributes.errors import RegistryError, one_line
from person_attributes.registry.model import load_model
from person_attributes.tracking.connection import connect
from person_attributes.workspace import Workspace

_PARAMS = {"all_probabilities": True, "on_error": "answer"}
_NOT_HEADS = ("error", "reason")


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
    """A registered model and its heat maps."""

    def __init__(self, model: str, workspace: Workspace) -> None:
        """Loads the model and tests it with one image.

        Args:
            model: A URI such as `models:/person-attributes@champion`.
            workspace: The project; its store has the model.

        Raises:
            RegistryError: If there is no such model, or its answers have another format. Register
                it again.
        """
        connect(workspace)
        self._attention: Attention | None = None
        self._classifier = load_model(model)
        self._require_answers(model)

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

    def load_attention(self) -> Attention:
        """Loads the network for heat maps once; the first call imports Keras, which is slow."""
        if self._attention is None:
            self._attention = Attention(f"models:/{self._classifier.metadata.model_id}")
        return self._attention

    def _require_answers(self, model: str) -> None:
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (128, 128, 128)).save(buffer, "PNG")
        try:
            answer = self.ask(buffer.getvalue())
        except (AttributeError, KeyError):  # older versions answered with a list
            answer = Answer({}, "Received: another format.")
        if not answer.heads:
            raise RegistryError(
                f"{model}: expected a table with the probabilities of all classes. "
                f"{answer.reason} Register it again: dvc repro --force --single-item register."
            )
