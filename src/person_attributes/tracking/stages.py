"""Opens the MLflow run of a stage from its parameters and files."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from person_attributes.config import Params
from person_attributes.digests import digest_paths
from person_attributes.tracking.runs import Run, open_run
from person_attributes.workspace import Workspace


@contextlib.contextmanager
def open_stage_run(
    stage: str,
    workspace: Workspace,
    params: Params,
    sections: set[str],
    reads: list[Path],
    writes: list[Path],
) -> Iterator[Run]:
    """Opens the MLflow run of a stage.

    Args:
        stage: Name in `dvc.yaml`.
        workspace: The project.
        params: All parameters.
        sections: The sections of `params.yaml` that the run logs.
        reads: Files that the stage reads.
        writes: Files that the stage writes.

    Yields:
        The run. Its final status is FINISHED, FAILED if the block raises, or KILLED after a signal.
    """
    with open_run(
        stage,
        workspace,
        params.model_dump(include=sections),
        params.model_dump(),
        digest_paths(workspace.root, reads),
        writes,
    ) as run:
        yield run


def name_shares(shares: dict[str, dict[str, float]], prefix: str = "") -> dict[str, float]:
    """Names shares by class number: MLflow does not accept all characters of class names."""
    return {
        f"{prefix}{head}_share_{number}": share
        for head, classes in shares.items()
        for number, share in enumerate(classes.values())
    }
