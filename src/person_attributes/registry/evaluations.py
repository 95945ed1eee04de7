"""Finds the evaluation of a run, a model version, a git revision or the project."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from person_attributes.config import flatten, read_yaml
from person_attributes.errors import ComparisonError
from person_attributes.evaluation.predictions import Predictions
from person_attributes.git import find_revision
from person_attributes.tracking.connection import NOT_THERE, connect, is_unreachable
from person_attributes.tracking.executions import STAGE, find_stage
from person_attributes.workspace import Workspace

_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Evaluated:
    """The predictions of the validation rows, and the parameters that produced them."""

    name: str
    predictions: Predictions
    params: Mapping[str, str]


def find_evaluated(workspace: Workspace, reference: str) -> Evaluated:
    """Finds an evaluation.

    Args:
        workspace: The project.
        reference: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, the id of a run, a git revision, or
            `workspace` for the outputs in the project.

    Raises:
        ComparisonError: If nothing has that name, or its evaluation is missing or damaged. Name
            another one.
    """
    if reference == "workspace":
        return _read(reference, workspace.predictions, workspace.params)
    if reference.startswith("models:/"):
        return _find_version(workspace, reference)
    if _RUN_ID.fullmatch(reference):
        client = connect(workspace)
        run = _get_run(client, reference)
        return _download(client, f"run {run.info.run_name}", _find_scored_run(client, run))
    return _find_revision(workspace, reference)


def _find_version(workspace: Workspace, reference: str) -> Evaluated:
    client = connect(workspace)
    name = reference.removeprefix("models:/")
    try:
        if "@" in name:
            version = client.get_model_version_by_alias(*name.split("@", 1))
        else:
            version = client.get_model_version(*name.rsplit("/", 1))
    except (MlflowException, TypeError) as error:
        if isinstance(error, MlflowException) and error.error_code not in NOT_THERE:
            raise
        raise ComparisonError(
            f"{reference}: no such model in the registry. Expected models:/NAME/VERSION or "
            "models:/NAME@ALIAS."
        ) from None
    if not version.run_id:
        raise ComparisonError(
            f"{reference}: the version has no run, and so no evaluation on rows of this project. "
            "Name a version that dvc repro registered."
        )
    run = _get_run(client, str(version.run_id))
    return _download(client, f"{version.name} version {version.version}", run)


def _get_run(client: MlflowClient, run_id: str) -> Run:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in NOT_THERE:
            raise
        raise ComparisonError(
            f"{run_id}: no such run. Copy an id from the MLflow UI, or set MLFLOW_TRACKING_URI."
        ) from None


def _find_scored_run(client: MlflowClient, run: Run) -> Run:
    """Returns the run with the predictions: this run, or the stage `evaluate` of an execution."""
    if run.data.tags.get(STAGE) in {"evaluate", "register"}:
        return run
    evaluated = find_stage(client, run, "evaluate")
    if evaluated is not None:
        return evaluated
    raise ComparisonError(
        f"run {run.info.run_name}: has no evaluation. Name an execution, or a run of the stage "
        "evaluate or register."
    )


def _download(client: MlflowClient, name: str, run: Run) -> Evaluated:
    with tempfile.TemporaryDirectory() as folder:
        try:
            paths = [
                Path(client.download_artifacts(run.info.run_id, artifact, folder))
                for artifact in ("predictions.npz", "params.yaml")
            ]
        except (MlflowException, OSError) as error:
            if isinstance(error, MlflowException) and is_unreachable(error):
                raise
            raise ComparisonError(
                f"{name}: its run has no predictions.npz or params.yaml. It did not finish, or an "
                "older version of this project logged it: evaluate it again."
            ) from None
        return _read(name, *paths)


def _find_revision(workspace: Workspace, reference: str) -> Evaluated:
    revision = find_revision(workspace.root, reference)
    if not revision.commit:
        reason = "no such run, model or git revision"
        if revision.fault:
            reason = f"no such run or model, and git revisions cannot be read: {revision.fault}"
        raise ComparisonError(
            f"{reference}: {reason}. Expected the id of a run, models:/NAME@ALIAS, a git branch, "
            "tag or commit, or workspace."
        )
    with tempfile.TemporaryDirectory() as folder:
        from dvc.api import DVCFileSystem  # imports slowly, and few commands read a revision

        # Its root is that of the repository, and the project may be in a folder of it.
        files = DVCFileSystem(str(workspace.root), rev=revision.commit, subrepos=True)
        found = []
        for path in (workspace.predictions, workspace.params):
            target = Path(folder) / path.name
            try:
                files.get_file(f"{revision.prefix}{workspace.relative(path)}", str(target))
            except Exception:  # DVC, its storage and git raise many types
                raise ComparisonError(
                    f"{reference}: {workspace.relative(path)} of that revision is neither in git "
                    "nor in DVC's cache or remote. Run dvc push where the revision was made, or "
                    "check it out and run dvc repro."
                ) from None
            found.append(target)
        return _read(f"{reference} ({revision.commit[:7]})", *found)


def _read(name: str, predictions: Path, params: Path) -> Evaluated:
    if not predictions.exists():
        raise ComparisonError(f"{name}: not evaluated yet. Run dvc repro.")
    content: Mapping[str, Any] = read_yaml(params)
    values = {key: str(value) for key, value in flatten(content)}
    try:
        return Evaluated(name, Predictions.read(predictions), values)
    except (BadZipFile, EOFError, KeyError, ValueError):
        raise ComparisonError(
            f"{name}: {predictions.name} is damaged. Run dvc repro, or evaluate it again."
        ) from None
