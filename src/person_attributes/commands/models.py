"""The command `models`: lists the registered versions."""

from person_attributes.config import Params
from person_attributes.registry.promotion import open_registry
from person_attributes.workspace import Workspace


def models(workspace: Workspace, params: Params) -> None:
    """Prints the registered versions: metrics, verdict of the gate, and champion period."""
    with open_registry(workspace, params.registry) as registry:
        print(registry.format_versions())
