"""MLflow runs: one a stage, below one an execution of the pipeline.

An execution is one `dvc repro`, one `dvc exp run` or one `mlflow run`; all stages below that
process share its parent run. What DVC skips leaves no run, but the parent names the earlier runs
that made those outputs, found by the digests of what they wrote.
"""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import psutil
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Metric, Param, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_RUN_NOTE,
)
from ruamel.yaml import YAML

from person_attributes.errors import TrackingError
from person_attributes.workspace import Workspace

_EXPERIMENT = "person-attributes"
_PARAMS_PER_BATCH = 100
_EXECUTION, _PROCESS = "pipeline.execution", "pipeline.process"
_STAGE, _OUTPUTS = "dvc.stage", "dvc.outputs"
_REUSED = "reused."
"""In front of a stage's name; MLflow takes no `@` in the name of a tag."""


class Run:
    """One stage's MLflow run, and the run of the execution that it belongs to."""

    def __init__(self, client: MlflowClient, run_id: str, parent_id: str) -> None:
        self._client = client
        self.run_id = run_id
        self.parent_id = parent_id

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs numbers to the stage's run."""
        self._log_metrics(self.run_id, metrics, step)

    def log_results(self, metrics: Mapping[str, float]) -> None:
        """Logs numbers to the stage's run and to its execution, where executions are compared."""
        for run_id in (self.run_id, self.parent_id):
            self._log_metrics(run_id, metrics, 0)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Logs a file or a folder as an artifact."""
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), folder)
        else:
            self._client.log_artifact(self.run_id, str(path), folder)

    def log_bytes(self, content: bytes, name: str) -> None:
        """Logs bytes, such as a picture, as an artifact of that name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._client.log_artifact(self.run_id, str(path))

    def log_dataset(self, table: pd.DataFrame, name: str, source: str, context: str) -> None:
        """Logs which data the stage used, with MLflow's digest of it."""
        with warnings.catch_warnings():
            # Guesses at the kind of source and hints on integers: neither concerns the user.
            warnings.simplefilter("ignore", UserWarning)
            dataset = from_pandas(table, source=source, name=name)
            mlflow.log_input(dataset, context=context)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags the stage's run and its execution."""
        for run_id in (self.run_id, self.parent_id):
            for key, value in tags.items():
                self._client.set_tag(run_id, key, value)

    def _log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        now = int(datetime.now().timestamp() * 1000)
        points = [Metric(name, float(value), now, step) for name, value in metrics.items()]
        self._client.log_batch(run_id, metrics=points)


@contextlib.contextmanager
def open_run(
    stage: str,
    workspace: Workspace,
    params: Mapping[str, Any],
    all_params: Mapping[str, Any],
    reads: Sequence[Path],
    writes: Sequence[Path],
) -> Iterator[Run]:
    """Opens the run of a stage below the run of its execution.

    Args:
        stage: Name in `dvc.yaml`, such as `train@p1`.
        workspace: The project; holds the embedded store unless `MLFLOW_TRACKING_URI` names another.
        params: The sections that the stage computes with.
        all_params: All of `params.yaml`, for the execution.
        reads: Files and folders that the stage reads.
        writes: Files and folders that the stage writes; they exist when the block ends.

    Yields:
        The run. It ends as FINISHED, or as FAILED where the block raises.

    Raises:
        TrackingError: If the tracking store does not answer; start it or name another.
    """
    client = connect(workspace)
    try:
        experiment = _choose_experiment()
    except MlflowException as error:
        raise TrackingError(
            f"MLflow at {mlflow.get_tracking_uri()}: {' '.join(error.message.split())[:300]} "
            "Start that server, or correct MLFLOW_TRACKING_URI."
        ) from None
    _end_abandoned_runs(client, experiment)
    parent_id, is_ours = _open_execution(client, experiment, workspace, all_params)
    with _execution_status(client, parent_id, is_ours):
        tags = {
            MLFLOW_PARENT_RUN_ID: parent_id,
            _STAGE: stage,
            _PROCESS: _identify(psutil.Process()),
            "dvc.inputs": json.dumps(_digest_paths(workspace, reads)),
            **_git_tags(workspace),
        }
        with mlflow.start_run(run_name=stage, tags=tags) as active:
            run = Run(client, active.info.run_id, parent_id)
            _log_params(client, run.run_id, params)
            yield run
            written = _digest_paths(workspace, writes)
            client.set_tag(run.run_id, "dvc.written", json.dumps(written))
            client.set_tag(run.run_id, _OUTPUTS, _combine(written))
        _name_reused_runs(client, experiment, workspace, parent_id, reads)


def connect(workspace: Workspace) -> MlflowClient:
    """Points MLflow at the project's own store, unless `MLFLOW_TRACKING_URI` names another."""
    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{workspace.tracking_database}")
    return MlflowClient()


def _choose_experiment() -> str:
    """Takes the experiment that `mlflow run` or the user names, or the project's own."""
    experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if experiment_id:
        return str(mlflow.set_experiment(experiment_id=experiment_id).experiment_id)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
    return str(mlflow.set_experiment(name).experiment_id)


def _open_execution(
    client: MlflowClient, experiment: str, workspace: Workspace, all_params: Mapping[str, Any]
) -> tuple[str, bool]:
    """Finds or creates the parent run; says whether it is ours to end.

    `mlflow run` exports the id of the project's run, which `start_run` would re-open; it becomes
    the parent instead.
    """
    project_run = os.environ.pop("MLFLOW_RUN_ID", None)
    if project_run:
        if "seed" not in client.get_run(project_run).data.params:
            _log_params(client, project_run, all_params)
        return project_run, False
    execution = _identify(_find_execution())
    found = client.search_runs([experiment], f"tags.`{_EXECUTION}` = '{execution}'", max_results=1)
    if found:
        return found[0].info.run_id, True
    name = os.environ.get("DVC_EXP_NAME") or f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    tags = {
        _EXECUTION: execution,
        _PROCESS: execution,
        MLFLOW_RUN_NAME: name,
        **_git_tags(workspace),
    }
    run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
    _log_params(client, run_id, all_params)
    return run_id, True


@contextlib.contextmanager
def _execution_status(client: MlflowClient, run_id: str, is_ours: bool) -> Iterator[None]:
    """Holds the parent at RUNNING while a stage runs; a later stage opens it again."""
    if not is_ours:
        yield
        return
    client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    try:
        yield
    except BaseException:
        client.set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED))
        raise
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))


def _find_execution() -> psutil.Process:
    """Finds the process that all stages of one execution stand below: `dvc`, or this one."""
    process = psutil.Process()
    for ancestor in process.parents():
        with contextlib.suppress(psutil.Error):
            if any(Path(word).name == "dvc" for word in ancestor.cmdline()[:3]):
                return ancestor
    return process


def _identify(process: psutil.Process) -> str:
    """Names a process for good: process numbers alone are used again."""
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def _end_abandoned_runs(client: MlflowClient, experiment: str) -> None:
    """Marks runs as KILLED whose process on this host is gone, as after `kill -9`."""
    running = client.search_runs([experiment], "attributes.status = 'RUNNING'")
    for run in running:
        host, _, rest = run.data.tags.get(_PROCESS, "").partition(":")
        if host != socket.gethostname():
            continue
        try:
            is_alive = _identify(psutil.Process(int(rest.partition(":")[0]))).endswith(rest)
        except psutil.NoSuchProcess:
            is_alive = False
        if not is_alive:
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def _git_tags(workspace: Workspace) -> dict[str, str]:
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=workspace.root,
        capture_output=True,
        text=True,
        check=False,
    )
    return {MLFLOW_GIT_COMMIT: git.stdout.strip()} if git.returncode == 0 else {}


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    flat = [Param(key, str(value)) for key, value in _flatten(params)]
    for begin in range(0, len(flat), _PARAMS_PER_BATCH):
        client.log_batch(run_id, params=flat[begin : begin + _PARAMS_PER_BATCH])


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _digest_paths(workspace: Workspace, paths: Sequence[Path]) -> dict[str, str]:
    digests = {}
    for path in paths:
        if path.exists():  # what is missing, the stage itself tells better
            name = workspace.relative(path) if path.is_relative_to(workspace.root) else str(path)
            digests[name] = _digest(path)
    return digests


def _digest(path: Path) -> str:
    """Digests a file or folder as DVC does, so that digests can be held against `dvc.lock`."""
    if path.is_dir():
        entries = [
            {"md5": _digest(file), "relpath": file.relative_to(path).as_posix()}
            for file in path.rglob("*")
            if file.is_file()
        ]
        entries.sort(key=lambda entry: entry["relpath"])
        return f"{hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest()}.dir"
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _combine(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def _name_reused_runs(
    client: MlflowClient,
    experiment: str,
    workspace: Workspace,
    parent_id: str,
    reads: Sequence[Path],
) -> None:
    """Writes on the parent which earlier runs made what this execution did not have to make."""
    if not workspace.dvc_lock.exists():
        return
    lock = YAML(typ="safe").load(workspace.dvc_lock.read_text(encoding="utf-8"))["stages"]
    siblings = client.search_runs([experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}'")
    executed = {run.data.tags.get(_STAGE) for run in siblings}
    wanted = [workspace.relative(path) for path in reads if path.is_relative_to(workspace.root)]
    everywhere = [known.experiment_id for known in client.search_experiments()]
    for stage in sorted(_find_upstream(lock, wanted) - executed):
        outputs = {out["path"]: out["md5"] for out in lock[stage].get("outs", [])}
        found = client.search_runs(
            everywhere,
            f"tags.`{_STAGE}` = '{stage}' and tags.`{_OUTPUTS}` = '{_combine(outputs)}'",
            max_results=1,
        )
        if found:
            client.set_tag(parent_id, _REUSED + stage.replace("@", " "), found[0].info.run_id)
    _describe_execution(client, parent_id)


def _find_upstream(lock: Mapping[str, Any], wanted: Sequence[str]) -> set[str]:
    """Walks `dvc.lock` from paths to all stages that they come from."""
    makers = [
        (Path(out["path"]), name) for name, entry in lock.items() for out in entry.get("outs", [])
    ]
    found: set[str] = set()
    queue = [Path(path) for path in wanted]
    while queue:
        path = queue.pop()
        for out, stage in makers:
            # A path may lie inside an output, or be the folder of several.
            overlaps = path.is_relative_to(out) or out.is_relative_to(path)
            if overlaps and stage not in found:
                found.add(stage)
                queue += [Path(dep["path"]) for dep in lock[stage].get("deps", [])]
    return found


def _describe_execution(client: MlflowClient, parent_id: str) -> None:
    tags = client.get_run(parent_id).data.tags
    lines = [
        f"- {key.removeprefix(_REUSED)}: run `{run_id}`"
        for key, run_id in sorted(tags.items())
        if key.startswith(_REUSED)
    ]
    if lines:
        note = "Stages that DVC did not have to run, and the runs that made their outputs:\n\n"
        client.set_tag(parent_id, MLFLOW_RUN_NOTE, note + "\n".join(lines))
