"""Evaluations of runs, model versions, git revisions and the project, found by their names."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.api import DVCFileSystem
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from person_attributes.config import read_yaml
from person_attributes.errors import ComparisonError
from person_attributes.evaluation.predictions import Predictions
from person_attributes.tracking.connection import NOT_THERE, connect
from person_attributes.tracking.executions import STAGE, find_stage, flatten
from person_attributes.workspace import Workspace

_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Evaluated:
    """What was said of the validation rows, and the parameters that led there."""

    name: str
    predictions: Predictions
    params: Mapping[str, str]


def find_evaluated(workspace: Workspace, reference: str) -> Evaluated:
    """Finds an evaluation by the name of a model version, a run, a git revision or `workspace`.

    Raises:
        ComparisonError: If nothing has that name, or it was not evaluated.
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
            f"{reference}: no such model. Expected models:/NAME/VERSION or models:/NAME@ALIAS of "
            "the registry."
        ) from None
    if not version.run_id:
        raise ComparisonError(
            f"{reference}: the published network has no evaluation on rows of this project. "
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
            f"{run_id}: no such run. Name one of the MLflow UI, or set MLFLOW_TRACKING_URI."
        ) from None


def _find_scored_run(client: MlflowClient, run: Run) -> Run:
    """Gives the run that carries predictions: itself, or of an execution its stage `evaluate`."""
    if run.data.tags.get(STAGE) in {"evaluate", "register"}:
        return run
    evaluated = find_stage(client, run, "evaluate")
    if evaluated is not None:
        return evaluated
    raise ComparisonError(
        f"run {run.info.run_name}: nothing was evaluated below it. Name an execution, or a run of "
        "the stage evaluate or register."
    )


def _download(client: MlflowClient, name: str, run: Run) -> Evaluated:
    with tempfile.TemporaryDirectory() as folder:
        try:
            paths = [
                Path(client.download_artifacts(run.info.run_id, artifact, folder))
                for artifact in ("predictions.npz", "params.yaml")
            ]
        except (MlflowException, OSError):
            raise ComparisonError(
                f"{name}: its run has no predictions.npz and params.yaml. It did not finish, or "
                "was made before runs kept them: evaluate it again."
            ) from None
        return _read(name, *paths)


def _find_revision(workspace: Workspace, reference: str) -> Evaluated:
    commit = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}"],
        cwd=workspace.root,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if not commit:
        raise ComparisonError(
            f"{reference}: neither a run, a model nor a revision. Expected the id of a run, "
            "models:/NAME@ALIAS, a branch, tag or commit of git, or workspace."
        )
    with tempfile.TemporaryDirectory() as folder:
        files = DVCFileSystem(str(workspace.root), rev=commit)
        found = []
        for path in (workspace.predictions, workspace.params):
            target = Path(folder) / path.name
            try:
                files.get_file(workspace.relative(path), str(target))
            except Exception as error:  # DVC, its storage and git raise whatever they like
                reason = str(error).partition("\n")[0]
                raise ComparisonError(
                    f"{reference}: {workspace.relative(path)} of that revision is not at hand: "
                    f"{reason} Run dvc pull, or check it out and run dvc repro."
                ) from None
            found.append(target)
        return _read(f"{reference} ({commit[:7]})", *found)


def _read(name: str, predictions: Path, params: Path) -> Evaluated:
    if not predictions.exists():
        raise ComparisonError(f"{name}: nothing was evaluated yet. Run dvc repro.")
    content: Mapping[str, Any] = read_yaml(params)
    values = {key: str(value) for key, value in flatten(content)}
    return Evaluated(name, Predictions.read(predictions), values)
