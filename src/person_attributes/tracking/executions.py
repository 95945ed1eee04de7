"""The parent run: one execution of the pipeline.

An execution is one `dvc repro`, one `dvc exp run` or one `mlflow run`; all stages below that
process share its run. The next one of the same parameters goes on with one that was killed or
failed. What DVC skips leaves no run, but the execution names the earlier runs that made those
outputs, found by the digests of what they wrote.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from mlflow.entities import Param, Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_RUN_NOTE,
)

from person_attributes.digests import combine, read_lock, recorded_outputs
from person_attributes.errors import StoppedError, SurpassedError
from person_attributes.tracking.experiments import CHANGES, EXECUTION, KIND, word_changes
from person_attributes.workspace import Workspace

STAGE, OUTPUTS, PROCESS = "dvc.stage", "dvc.outputs", "pipeline.process"
PLACE = "pipeline.place"
"""Host and folder: on a shared server, what was stopped goes on where it was begun, only there."""

_EXECUTION = "pipeline.execution"
_PARAMS_PER_BATCH = 100
_REUSED = "reused."


def open_execution(
    client: MlflowClient, experiment: str, workspace: Workspace, all_params: Mapping[str, Any]
) -> tuple[str, bool]:
    """Finds or creates the run of this execution; says whether it is ours to end.

    `mlflow run` exports the id of the project's run, which `start_run` would re-open; it becomes
    the parent instead.
    """
    project_run = os.environ.pop("MLFLOW_RUN_ID", None)
    if project_run:
        data = client.get_run(project_run).data
        if KIND not in data.tags:
            for key, value in _introduce(client, experiment, all_params).items():
                client.set_tag(project_run, key, value)
        if "seed" not in data.params:
            log_params(client, project_run, all_params)
        return project_run, False
    opened = find_opened_execution(client, experiment)
    if opened:
        return opened, True
    execution = identify(_find_execution())
    place = name_place(workspace)
    tags = {_EXECUTION: execution, PROCESS: execution, PLACE: place, **git_tags(workspace)}
    tags |= _introduce(client, experiment, all_params)
    stopped = _find_stopped(client, experiment, place, all_params)
    if stopped:
        for key, value in tags.items():
            client.set_tag(stopped, key, value)
        return stopped, True
    name = os.environ.get("DVC_EXP_NAME") or f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    tags[MLFLOW_RUN_NAME] = name
    run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
    log_params(client, run_id, all_params)
    return run_id, True


def find_opened_execution(client: MlflowClient, experiment: str) -> str | None:
    """Finds the run that an earlier stage of this execution has opened."""
    project_run = os.environ.get("MLFLOW_RUN_ID")
    if project_run:
        return project_run
    execution = identify(_find_execution())
    found = client.search_runs([experiment], f"tags.`{_EXECUTION}` = '{execution}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _introduce(
    client: MlflowClient, experiment: str, all_params: Mapping[str, Any]
) -> dict[str, str]:
    """Tags by which the UI tells executions from each other: what kind, and what changed."""
    earlier = client.search_runs(
        [experiment],
        f"tags.{KIND} = '{EXECUTION}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    params = {key: str(value) for key, value in flatten(all_params)}
    changes = word_changes(earlier[0].data.params if earlier else None, params)
    return {KIND: EXECUTION, CHANGES: changes}


def _find_stopped(
    client: MlflowClient, experiment: str, place: str, all_params: Mapping[str, Any]
) -> str | None:
    """Finds the last execution here, where it did not finish and had the same parameters."""
    last = client.search_runs(
        [experiment],
        f"tags.`{_EXECUTION}` LIKE '%' and tags.`{PLACE}` = '{place}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    same = {key: str(value) for key, value in flatten(all_params)}
    if last and last[0].info.status in {"KILLED", "FAILED"} and last[0].data.params == same:
        return str(last[0].info.run_id)
    return None


@contextlib.contextmanager
def hold_open(client: MlflowClient, run_id: str, is_ours: bool) -> Iterator[None]:
    """Holds the parent at RUNNING while a stage runs; a later stage opens it again."""
    if not is_ours:
        yield
        return
    client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    try:
        yield
    except BaseException as error:
        # Where the server is what failed, the next execution marks the run.
        with contextlib.suppress(MlflowException):
            client.set_terminated(run_id, end_status(error))
        raise
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))


def end_status(error: BaseException) -> str:
    """Says how a run ends that an error ends: KILLED where something stopped it, else FAILED."""
    is_stopped = isinstance(error, KeyboardInterrupt | StoppedError | SurpassedError)
    return str(RunStatus.to_string(RunStatus.KILLED if is_stopped else RunStatus.FAILED))


def _find_execution() -> psutil.Process:
    """Finds the process that all stages of one execution stand below: `dvc`, or this one."""
    process = psutil.Process()
    for ancestor in process.parents():
        with contextlib.suppress(psutil.Error):
            if any(Path(word).name == "dvc" for word in ancestor.cmdline()[:3]):
                return ancestor
    return process


def identify(process: psutil.Process) -> str:
    """Names a process for good: process numbers alone are used again."""
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def name_place(workspace: Workspace) -> str:
    """Names the folder of backups among all machines, without quotes, which filters are set in."""
    return quote(f"{socket.gethostname()}:{workspace.backups}", safe="/:")


def end_abandoned_runs(client: MlflowClient, experiment: str) -> None:
    """Marks runs as KILLED whose process on this host is gone, as after `kill -9`."""
    running = client.search_runs([experiment], "attributes.status = 'RUNNING'")
    for run in running:
        host, _, rest = run.data.tags.get(PROCESS, "").partition(":")
        if host != socket.gethostname():
            continue
        try:
            is_alive = identify(psutil.Process(int(rest.partition(":")[0]))).endswith(rest)
        except psutil.NoSuchProcess:
            is_alive = False
        if not is_alive:
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def git_tags(workspace: Workspace) -> dict[str, str]:
    """Tags with the commit, where the project is a git repository."""
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=workspace.root,
        capture_output=True,
        text=True,
        check=False,
    )
    return {MLFLOW_GIT_COMMIT: git.stdout.strip()} if git.returncode == 0 else {}


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    """Logs nested parameters under dotted names."""
    flat = [Param(key, str(value)) for key, value in flatten(params)]
    for begin in range(0, len(flat), _PARAMS_PER_BATCH):
        client.log_batch(run_id, params=flat[begin : begin + _PARAMS_PER_BATCH])


def flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Gives nested parameters under dotted names."""
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def name_reused_runs(
    client: MlflowClient,
    experiment: str,
    workspace: Workspace,
    parent_id: str,
    reads: Sequence[str],
) -> None:
    """Writes on the parent which earlier runs made what this execution did not have to make."""
    lock = read_lock(workspace.dvc_lock)
    if not lock:
        return
    siblings = client.search_runs([experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}'")
    executed = {run.data.tags.get(STAGE) for run in siblings}
    everywhere = [known.experiment_id for known in client.search_experiments()]
    for stage in sorted(_find_upstream(lock, reads) - executed):
        outputs = recorded_outputs(lock, stage)
        found = client.search_runs(
            everywhere,
            f"tags.`{STAGE}` = '{stage}' and tags.`{OUTPUTS}` = '{combine(outputs)}'",
            max_results=1,
        )
        if found:
            client.set_tag(parent_id, _tag_reused(stage), found[0].info.run_id)
    _describe_execution(client, parent_id)


def _tag_reused(stage: str) -> str:
    return _REUSED + stage.replace("@", " ")  # MLflow takes no @ in the name of a tag.


def find_stage(client: MlflowClient, execution: Run, stage: str) -> Run | None:
    """Gives the last finished run of a stage below an execution, or else the run it reused."""
    found = client.search_runs(
        [execution.info.experiment_id],
        f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{execution.info.run_id}' and tags.`{STAGE}` = '{stage}' "
        "and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if found:
        return found[0]
    reused = execution.data.tags.get(_tag_reused(stage))
    return client.get_run(reused) if reused else None


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
