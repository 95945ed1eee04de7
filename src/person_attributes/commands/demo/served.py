"""The registered model as its server has it: bytes of a file in, answers out."""

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
_ABOUT_THE_ROW = ("error", "reason")


@dataclass(frozen=True)
class Answer:
    """What the model says of one photograph.

    Attributes:
        heads: `{head: {"label", "probability", "probabilities"}}`; empty where it was refused.
        reason: Why it was refused, in a sentence; empty where it was not.
    """

    heads: dict[str, dict[str, Any]]
    reason: str = ""


class Served:
    """A registered model, and where its network looks."""

    def __init__(self, model: str, workspace: Workspace) -> None:
        """Loads the model and asks it once.

        Args:
            model: Such as `models:/person-attributes@champion`.
            workspace: The project, whose store holds the model.

        Raises:
            RegistryError: If there is no such model, or it answers in another way.
        """
        connect(workspace)
        self._attention: Attention | None = None
        self._classifier = load_model(model)
        self._require_answers(model)

    def ask(self, content: bytes) -> Answer:
        """Asks about the bytes of an image file."""
        image = base64.b64encode(content).decode()
        try:
            row = self._classifier.predict(pd.DataFrame({"image": [image]}), params=_PARAMS).iloc[0]
        except MlflowException as error:
            return Answer({}, one_line(error.message, 300))
        if row["error"]:
            return Answer({}, row["reason"])
        return Answer({head: row[head] for head in row.index if head not in _ABOUT_THE_ROW})

    def look(self) -> Attention:
        """Gives where its network looks; the first time it loads Keras, which takes seconds."""
        if self._attention is None:
            self._attention = Attention(f"models:/{self._classifier.metadata.model_id}")
        return self._attention

    def _require_answers(self, model: str) -> None:
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (128, 128, 128)).save(buffer, "PNG")
        try:
            answer = self.ask(buffer.getvalue())
        except (AttributeError, KeyError):  # a list, as models answered before
            answer = Answer({}, "Received: another form.")
        if not answer.heads:
            raise RegistryError(
                f"{model}: cannot be tried. Expected a table with probabilities of all classes. "
                f"{answer.reason} Register it anew: dvc repro --force --single-item register."
            )
