"""Runs a stage, or restores its outputs from DVC's run cache; one process per stage and folder."""

import importlib
from contextlib import AbstractContextManager

from person_attributes.config import Params
from person_attributes.pipeline.run_cache import RunCache
from person_attributes.runtime.keras_import import import_keras
from person_attributes.runtime.locks import lock_or_refuse
from person_attributes.workspace import Workspace

_NEED_KERAS = ("initialize", "train", "evaluate")

_NEVER_RESTORED = ("select",)
"""Stages that always run: `select` only copies files, and it removes files."""


def run_stage(stage: str, workspace: Workspace, params: Params, item: str | None) -> None:
    """Runs a stage, or restores its outputs.

    Args:
        stage: The name of the stage and of its module.
        workspace: The project.
        params: All parameters.
        item: The phase or image size of a stage that `dvc.yaml` repeats, else None.
    """
    name = f"{stage}@{item}" if item else stage
    items = (item,) if item else ()
    with _lock_stage(workspace, name):
        run_cache = RunCache(workspace, name)
        if stage not in _NEVER_RESTORED and run_cache.restore():
            return
        if stage == "ingest":
            _check_policies(params)
        if stage in _NEED_KERAS:
            import_keras()
        compute = getattr(importlib.import_module(f"person_attributes.pipeline.{stage}"), stage)
        if stage == "train":
            compute(workspace, params, *items, run_cache=run_cache)
        else:
            compute(workspace, params, *items)
            run_cache.save()


def _check_policies(params: Params) -> None:
    """Refuses invalid augmentation policies early: a phase may build its own hours later."""
    from person_attributes.data.augment import check_policies

    check_policies(params.augmentation, params.data.image_sizes)


def _lock_stage(workspace: Workspace, stage: str) -> AbstractContextManager[None]:
    """Locks a stage in this folder.

    Raises:
        BusyError: If another process runs it, for example one that a killed `dvc` left behind.
            Wait for it or end it.
    """
    path = workspace.stage_lock(stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    return lock_or_refuse(
        path,
        f"{stage}: another process runs this stage in {workspace.root}. Expected one process at a "
        "time. Wait for it or end it, then run dvc repro.",
    )
