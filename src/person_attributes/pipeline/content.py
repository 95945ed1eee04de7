"""The content of a registered version, as one digest."""

from pathlib import Path

from person_attributes.config import Params, flatten
from person_attributes.digests import combine, digest_code, digest_paths, read_stage
from person_attributes.workspace import Workspace


def digest_content(workspace: Workspace, params: Params) -> str:
    """Digests the files of a version, and the parameters and code that `dvc.yaml` lists for it.

    The images are not read: the predictions depend on them already.
    """
    names = read_stage("register")["params"]
    used = {
        key: value
        for key, value in flatten(params.model_dump(mode="json"))
        if any(f"{key}.".startswith(f"{name}.") for name in names)
    }
    files = digest_paths(workspace.root, list_content(workspace))
    return combine({"files": files | digest_code("register"), "params": used})


def list_content(workspace: Workspace) -> list[Path]:
    """Lists the files that determine a version."""
    return [
        workspace.selected,
        workspace.normalization,
        workspace.temperatures,
        workspace.label_map,
        workspace.records,
        workspace.split,
        workspace.metrics,
        workspace.heads,
        workspace.slices,
        workspace.predictions,
    ]
