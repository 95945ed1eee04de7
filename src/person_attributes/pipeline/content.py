"""What a registered version is made of, as one digest."""

from pathlib import Path

from person_attributes.config import Params
from person_attributes.digests import combine, digest_paths, read_stage
from person_attributes.tracking.executions import flatten
from person_attributes.workspace import Workspace


def digest_content(workspace: Workspace, params: Params) -> str:
    """Digests what a version is made of: files, and parameters and code as `dvc.yaml` lists them.

    Images are not read again: the predictions depend on them.
    """
    declared = read_stage(workspace.dvc_yaml, "register")
    code = [workspace.root / name for name in declared["deps"] if name.startswith("src/")]
    files = digest_paths(workspace.root, [*list_content(workspace, params), *code])
    used = {
        key: value
        for key, value in flatten(params.model_dump(mode="json"))
        if any(f"{key}.".startswith(f"{name}.") for name in declared["params"])
    }
    return combine({"files": files, "params": used})


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
