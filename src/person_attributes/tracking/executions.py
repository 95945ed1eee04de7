"""The parent run: one execution of the pipeline.

An execution is one `dvc repro`, one `dvc exp run` or one `mlflow run`; all stages below that
process share its run. The next execution with the same parameters resumes one that was killed or
failed. Stages that DVC skips have no run; the execution refers to the earlier runs that made their
outputs, which are found by digest.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow.entities import LifecycleStage, Param, Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_RUN_NOTE,
)
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

from person_attributes.config import flatten
from person_attributes.digests import combine, read_lock, recorded_outputs
from person_attributes.errors import StoppedError, SurpassedError
from person_attributes.git import find_revision
from person_attributes.tracking.connection import NOT_THERE
from person_attributes.tracking.experiments import CHANGES, EXECUTION, KIND, describe_changes
from person_attributes.tracking.filters import quote_value
from person_attributes.tracking.processes import (
    PLACE,
    PROCESS,
    find_execution_process,
    identify,
    is_gone,
    name_place,
)
from person_attributes.tracking.projects import RUN_ID
from person_attributes.workspace import Workspace

STAGE, OUTPUTS = "dvc.stage", "dvc.outputs"

LAST_STAGE = "register"
"""The stage that completes an execution."""

_EXECUTION, _COMPLETE = "pipeline.execution", "pipeline.complete"
_PROJECT_RUN = "pipeline.project_run"
"""Tag of an execution: the run of `mlflow run`, if it is in another experiment or store."""

_REUSED = "reused."


def open_execution(
    client: MlflowClient,
    experiment: str,
    workspace: Workspace,
    all_params: Mapping[str, Any],
) -> tuple[str, bool]:
    """Finds or creates the run of this execution.

    `mlflow run` exports the id of its project run, which `start_run` would re-open. A project run
    in this experiment becomes the execution. A project run elsewhere, MLflow's default, is linked.

    Returns:
        The id of the run, and whether this process has to end it.
    """
    run_id = find_execution(client, experiment, workspace, all_params)
    project_run = os.environ.pop(RUN_ID, None)
    if run_id and run_id == project_run:
        _adopt_project_run(client, client.get_run(run_id), all_params)
        return run_id, False
    execution = identify(find_execution_process())
    if run_id is None or client.get_run(run_id).data.tags[_EXECUTION] != execution:
        place = name_place(workspace.checkpoints)
        tags = {_EXECUTION: execution, PROCESS: execution, PLACE: place, **git_tags(workspace)}
        tags |= _make_change_tags(client, experiment, all_params)
        run_id = _create_or_take_over(client, experiment, run_id, tags, all_params)
    if project_run:
        _link_project_run(client, project_run, experiment, run_id)
    return run_id, True


def find_execution(
    client: MlflowClient, experiment: str, workspace: Workspace, all_params: Mapping[str, Any]
) -> str | None:
    """Finds the run of this execution, or of an incomplete one that this execution resumes.

    Before the first stage has opened a run, it may be the project run of `mlflow run`.

    Args:
        client: A client of the store.
        experiment: The id of the experiment.
        workspace: The project.
        all_params: All of `params.yaml`.

    Returns:
        The id of the run; None if no stage of this execution has run yet.
    """
    project = _find_run(client, os.environ.get(RUN_ID, ""))
    if project and project.info.experiment_id == experiment:
        return str(project.info.run_id)
    execution = identify(find_execution_process())
    found = client.search_runs(
        [experiment], f"tags.`{_EXECUTION}` = {quote_value(execution)}", max_results=1
    )
    if found:
        return str(found[0].info.run_id)
    return _find_stopped(client, experiment, name_place(workspace.checkpoints), all_params)


def _find_stopped(
    client: MlflowClient, experiment: str, place: str, all_params: Mapping[str, Any]
) -> str | None:
    """Finds the last execution in this folder, if it is incomplete and has the same parameters.

    An execution that is killed between two stages has the status FINISHED.
    """
    last = client.search_runs(
        [experiment],
        f"tags.`{_EXECUTION}` LIKE '%' and tags.`{PLACE}` = {quote_value(place)}",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not last or _COMPLETE in last[0].data.tags:
        return None
    has_stopped = last[0].info.status in {"KILLED", "FAILED"}
    is_same = last[0].data.params == _to_logged(all_params)
    if is_same and (has_stopped or is_gone(last[0].data.tags[PROCESS])):
        return str(last[0].info.run_id)
    return None


def complete_execution(client: MlflowClient, run_id: str) -> None:
    """Records that all outputs of an execution are up to date."""
    client.set_tag(run_id, _COMPLETE, "true")


def _find_run(client: MlflowClient, run_id: str) -> Run | None:
    """Finds a run; None if it was deleted, if it is in another store, or if this is not an id."""
    try:
        run = client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if error.error_code in NOT_THERE:
            return None
        raise
    return run if run and run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


def _link_project_run(client: MlflowClient, project_run: str, experiment: str, run_id: str) -> None:
    """Links an execution and a project run that is in another experiment or store."""
    client.set_tag(run_id, _PROJECT_RUN, project_run)
    if _find_run(client, project_run):
        note = f"The stages are below [this execution](#/experiments/{experiment}/runs/{run_id})."
        client.set_tag(project_run, MLFLOW_RUN_NOTE, note)


def _adopt_project_run(client: MlflowClient, run: Run, all_params: Mapping[str, Any]) -> None:
    """Makes a project run, or the run of a trial, the parent of stages."""
    if KIND not in run.data.tags:
        tags = _make_change_tags(client, run.info.experiment_id, all_params)
        for key, value in tags.items():
            client.set_tag(run.info.run_id, key, value)
    if "seed" not in run.data.params:
        log_params(client, run.info.run_id, all_params)


def _create_or_take_over(
    client: MlflowClient,
    experiment: str,
    run_id: str | None,
    tags: Mapping[str, str],
    all_params: Mapping[str, Any],
) -> str:
    """Creates the run of an execution, or assigns a stopped run to this execution."""
    if run_id is not None:
        for key, value in tags.items():
            client.set_tag(run_id, key, value)
        return run_id
    name = os.environ.get("DVC_EXP_NAME") or f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    named = {**tags, MLFLOW_RUN_NAME: name}
    run_id = str(client.create_run(experiment, tags=named, run_name=name).info.run_id)
    log_params(client, run_id, all_params)
    return run_id


def _make_change_tags(
    client: MlflowClient, experiment: str, all_params: Mapping[str, Any]
) -> dict[str, str]:
    """Makes the tags for the columns of the UI: the kind of run, and the changed parameters."""
    earlier = client.search_runs(
        [experiment],
        f"tags.{KIND} = '{EXECUTION}' and tags.`{_COMPLETE}` = 'true'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    params = _to_logged(all_params)
    before = earlier[0].data.params if earlier else None
    if before:
        # `mlflow run` logs its own parameters, such as `target`.
        before = {key: value for key, value in before.items() if key.split(".")[0] in all_params}
    return {KIND: EXECUTION, CHANGES: describe_changes(before, params)}


@contextlib.contextmanager
def keep_running(client: MlflowClient, run_id: str, is_ours: bool) -> Iterator[None]:
    """Sets a run to RUNNING in the block, and to its final status after it.

    Args:
        client: A client of the store.
        run_id: The run.
        is_ours: Whether this process ends the run; if false, nothing is changed.
    """
    if not is_ours:
        yield
        return
    client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    try:
        yield
    except BaseException as error:
        # If the server is unavailable, the next execution sets the status of the run.
        with contextlib.suppress(MlflowException):
            client.set_terminated(run_id, end_status(error))
        raise
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))


def end_status(error: BaseException) -> str:
    """Returns the final status of a run after an error: KILLED if it was stopped, else FAILED."""
    is_stopped = isinstance(error, KeyboardInterrupt | StoppedError | SurpassedError)
    return str(RunStatus.to_string(RunStatus.KILLED if is_stopped else RunStatus.FAILED))


def git_tags(workspace: Workspace) -> dict[str, str]:
    """Returns a tag with the commit, if the project is a git repository."""
    commit = find_revision(workspace.root, "HEAD").commit
    return {MLFLOW_GIT_COMMIT: commit} if commit else {}


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    """Logs nested parameters under dotted names."""
    logged = [Param(key, value) for key, value in _to_logged(params).items()]
    client.log_batch(run_id, params=logged)


def _to_logged(params: Mapping[str, Any]) -> dict[str, str]:
    """Returns nested parameters as MLflow's stores keep them: long values are truncated."""
    return {key: str(value)[:MAX_PARAM_VAL_LENGTH] for key, value in flatten(params)}


def tag_reused_runs(
    client: MlflowClient,
    experiment: str,
    workspace: Workspace,
    parent_id: str,
    reads: Sequence[str],
) -> None:
    """Tags an execution with the earlier runs whose outputs it reuses.

    Args:
        client: A client of the store.
        experiment: The id of the experiment.
        workspace: The project.
        parent_id: The run of the execution.
        reads: Paths whose upstream stages are looked up.
    """
    lock = read_lock(workspace.dvc_lock)
    if not lock:
        return
    siblings = client.search_runs(
        [experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = {quote_value(parent_id)}"
    )
    executed = {run.data.tags.get(STAGE) for run in siblings}
    everywhere = [known.experiment_id for known in client.search_experiments()]
    for stage in sorted(_find_upstream(lock, reads) - executed):
        outputs = recorded_outputs(lock, stage)
        found = client.search_runs(
            everywhere,
            f"tags.`{STAGE}` = {quote_value(stage)} "
            f"and tags.`{OUTPUTS}` = {quote_value(combine(outputs))}",
            max_results=1,
        )
        if found:
            client.set_tag(parent_id, _tag_reused(stage), found[0].info.run_id)
    _describe_execution(client, parent_id)


def _tag_reused(stage: str) -> str:
    return _REUSED + stage.replace("@", " ")  # MLflow does not allow @ in the name of a tag


def find_stage(client: MlflowClient, execution: Run, stage: str) -> Run | None:
    """Finds the last finished run of a stage below an execution, or the run that it reused."""
    found = client.search_runs(
        [execution.info.experiment_id],
        f"tags.`{MLFLOW_PARENT_RUN_ID}` = {quote_value(execution.info.run_id)} "
        f"and tags.`{STAGE}` = {quote_value(stage)} and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if found:
        return found[0]
    reused = execution.data.tags.get(_tag_reused(stage))
    return client.get_run(reused) if reused else None


def _find_upstream(lock: Mapping[str, Any], wanted: Sequence[str]) -> set[str]:
    """Finds all stages in `dvc.lock` that the paths depend on."""
    makers = [
        (Path(out["path"]), name) for name, entry in lock.items() for out in entry.get("outs", [])
    ]
    found: set[str] = set()
    queue = [Path(path) for path in wanted]
    while queue:
        path = queue.pop()
        for out, stage in makers:
            # A path may be inside an output, or contain several outputs.
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
        note = "Stages that DVC skipped, and the runs that made their outputs:\n\n"
        client.set_tag(parent_id, MLFLOW_RUN_NOTE, note + "\n".join(lines))
