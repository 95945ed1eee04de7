"""The command `serve`: serves a registered model with what operators need."""

import tempfile
from pathlib import Path
from typing import Any

import mlflow

from person_attributes.config import Params
from person_attributes.registry.promotion import require_champion
from person_attributes.server import run
from person_attributes.server.settings import ServerSettings
from person_attributes.tracking.connection import connect, translate_load_errors
from person_attributes.workspace import Workspace


def serve(workspace: Workspace, params: Params, model: str, **settings: Any) -> None:
    """Serves a version until SIGTERM or Ctrl-C.

    The version that an alias names now is served until the end: restart the server to change it.

    Args:
        workspace: The project; its store has the model.
        params: The name of the registered model.
        model: A URI such as `models:/person-attributes@champion`; empty for the champion.
        settings: The fields of `ServerSettings`.

    Raises:
        RegistryError: If there is no such model. `person-attributes models` lists them.
        ServingError: If the server cannot start.
    """
    connect(workspace)
    uri = model or require_champion(workspace, params)
    with tempfile.TemporaryDirectory(prefix="person-attributes-serve-") as folder:
        with translate_load_errors(uri):
            path = mlflow.artifacts.download_artifacts(uri, dst_path=folder)
        run.serve(Path(path), ServerSettings(**settings))
