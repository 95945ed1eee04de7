"""The command `rollback`: sets the alias to the previous champion."""

from person_attributes.config import Params
from person_attributes.registry.promotion import open_registry
from person_attributes.workspace import Workspace


def rollback(workspace: Workspace, params: Params) -> None:
    """Sets the alias to the previous champion."""
    with open_registry(workspace, params.registry) as models, models.lock():
        back = models.roll_back()
    print(
        f"{params.registry.model_name} version {back.version} is {params.registry.alias}: "
        f"{back.reason}"
    )
