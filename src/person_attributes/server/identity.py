"""Which version of which model a server answers with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME
from mlflow.utils.yaml_utils import read_yaml

MODEL_NAME, MODEL_VERSION = "X-Model-Name", "X-Model-Version"
"""Headers of every answer."""


@dataclass(frozen=True)
class Identity:
    """The served version.

    Attributes:
        name: The name of the registered model; empty if it is not registered.
        version: The number of its version.
        model_id: MLflow's id of the logged model.
    """

    name: str
    version: str
    model_id: str

    @classmethod
    def read(cls, folder: Path, model_id: str) -> Self:
        """Reads name and version from the file that MLflow adds to a downloaded version."""
        content: dict[str, Any] = {}
        if (folder / REGISTERED_MODEL_META_FILE_NAME).exists():
            content = read_yaml(  # type: ignore[no-untyped-call]
                str(folder), REGISTERED_MODEL_META_FILE_NAME
            )
        name, version = content.get("model_name"), content.get("model_version")
        return cls(name or "", str(version or ""), model_id)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that name this version; the name is percent-encoded."""
        return {MODEL_NAME: quote(self.name), MODEL_VERSION: self.version}
