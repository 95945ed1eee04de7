"""What a registered version is made of, as one digest."""

from pathlib import Path

from person_attributes.config import Params
from person_attributes.digests import combine, digest_code, digest_paths, read_stage
from person_attributes.tracking.executions import flatten
from person_attributes.workspace import Workspace


def digest_content(workspace: Workspace, params: Params) -> str:
    """Digests what a version is made of: files, and parameters and code as `dvc.yaml` lists them.

    Images are not read again: the predictions depend on them.
    """
    names = read_stage("register")["params"]
    used = {
        key: value
        for key, value in flatten(params.model_dump(mode="json"))
        if any(f"{key}.".startswith(f"{name}.") for name in names)
    }
    files = digest_paths(workspace.root, list_content(workspace, params))
    return combine({"files": files | digest_code("register"), "params": used})


def list_content(workspace: Workspace, params: Params) -> list[Path]:
    """Lists the files that a version is made of."""
    phase = params.evaluation.phase
    return [
        workspace.weights(phase),
        workspace.provenance(phase),
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
