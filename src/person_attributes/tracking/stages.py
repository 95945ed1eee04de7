"""The MLflow run of a stage, opened from its parameters and files."""

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
        stage: Its name, as `dvc.yaml` has it.
        workspace: The project.
        params: All parameters.
        sections: Which of them the run shows.
        reads: Files that the stage reads.
        writes: Files that it writes.

    Yields:
        The run; it is FINISHED or FAILED after.
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
    """Names shares by the number of the class: MLflow does not accept what class names hold."""
    return {
        f"{prefix}{head}_share_{number}": share
        for head, classes in shares.items()
        for number, share in enumerate(classes.values())
    }
