"""Executions: resuming, changed parameters, and the runs of `mlflow run`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Project, change_params
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from person_attributes.tracking.connection import choose_experiment, connect
from person_attributes.tracking.database import sqlite_address
from person_attributes.tracking.executions import LAST_STAGE, git_tags, log_params
from person_attributes.tracking.processes import PROCESS, identify
from person_attributes.tracking.runs import open_run
from person_attributes.workspace import Workspace

PARAMS = {"seed": 1, "split": {"seed": 2}}


def _run_stage(workspace: Workspace, stage: str, params: dict[str, Any] | None = None) -> Run:
    """Runs a stage that does nothing; returns the run of its execution."""
    params = params or PARAMS
    with open_run(stage, workspace, {}, params, inputs={}, writes=[]) as run:
        parent_id = run.parent_id
    return connect(workspace).get_run(parent_id)


def _end_process(client: MlflowClient, execution: Run) -> None:
    """Assigns an execution to a killed process, like a `dvc repro` killed between two stages."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identify(psutil.Process(process.pid))
    process.kill()
    process.communicate()
    for tag in (PROCESS, "pipeline.execution"):
        client.set_tag(execution.info.run_id, tag, identity)


def test_an_execution_that_was_killed_between_two_stages_is_resumed(workspace: Workspace) -> None:
    client = connect(workspace)
    first = _run_stage(workspace, "ingest")
    assert first.info.status == "FINISHED"
    _end_process(client, first)
    second = _run_stage(workspace, "split")
    assert second.info.run_id == first.info.run_id
    assert _run_stage(workspace, LAST_STAGE).info.run_id == first.info.run_id


def test_a_complete_execution_or_one_with_other_parameters_is_not_resumed(
    workspace: Workspace,
) -> None:
    client = connect(workspace)
    incomplete = _run_stage(workspace, "split")
    _end_process(client, incomplete)
    complete = _run_stage(workspace, LAST_STAGE, PARAMS | {"seed": 7})
    assert complete.info.run_id != incomplete.info.run_id
    _end_process(client, complete)
    again = _run_stage(workspace, LAST_STAGE, PARAMS | {"seed": 7})
    assert again.info.run_id != complete.info.run_id


def test_an_execution_with_a_very_long_parameter_is_resumed(workspace: Workspace) -> None:
    """MLflow's stores truncate long values."""
    params = PARAMS | {"classes": [f"class {number}" for number in range(1000)]}
    first = _run_stage(workspace, "ingest", params)
    _end_process(connect(workspace), first)
    second = _run_stage(workspace, "split", params)
    assert second.info.run_id == first.info.run_id


@pytest.mark.parametrize("left_over", ["0" * 32, "not an id", "deleted"])
def test_the_id_of_a_run_that_is_not_in_the_store_is_ignored(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, left_over: str
) -> None:
    """Shells keep variables of earlier work."""
    client = connect(workspace)
    if left_over == "deleted":
        left_over = str(client.create_run(choose_experiment(client, workspace)).info.run_id)
        client.delete_run(left_over)
    monkeypatch.setenv("MLFLOW_RUN_ID", left_over)
    execution = _run_stage(workspace, "split")
    assert (execution.info.status, execution.info.run_id != left_over) == ("FINISHED", True)


def test_an_execution_of_a_running_process_is_not_resumed(workspace: Workspace) -> None:
    client = connect(workspace)
    first = _run_stage(workspace, "split")
    client.set_tag(first.info.run_id, "pipeline.execution", "of another running dvc")
    assert _run_stage(workspace, "split").info.run_id != first.info.run_id


def test_changes_are_relative_to_the_last_complete_execution(workspace: Workspace) -> None:
    client = connect(workspace)
    first = _run_stage(workspace, LAST_STAGE)
    assert first.data.tags["changes"] == "first execution"
    for seed in (7, 8):
        _end_process(client, first)
        stopped = _run_stage(workspace, "split", PARAMS | {"seed": seed})
        _end_process(client, stopped)
    last = _run_stage(workspace, LAST_STAGE, PARAMS | {"seed": 8})
    assert last.info.run_id == stopped.info.run_id
    assert last.data.tags["changes"] == "seed: 1 -> 8"


def _make_project_run(client: MlflowClient, experiment: str) -> str:
    """Creates the run that `mlflow run . -P target=split` creates before the project runs."""
    run_id = str(client.create_run(experiment).info.run_id)
    client.log_param(run_id, "target", "split")
    return run_id


def test_mlflow_run_tracks_in_the_experiment_of_dvc_repro(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(workspace)
    project_run = _make_project_run(client, "0")
    monkeypatch.setenv("MLFLOW_RUN_ID", project_run)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    execution = _run_stage(workspace, "split")
    experiment = client.get_experiment_by_name("person-attributes")
    assert experiment is not None
    assert execution.info.experiment_id == experiment.experiment_id
    assert execution.data.tags["pipeline.project_run"] == project_run
    assert execution.info.run_id in client.get_run(project_run).data.tags["mlflow.note.content"]


def test_mlflow_run_tracks_stages_in_the_experiment_that_the_user_names(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(workspace)
    experiment = client.create_experiment("named")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    for changes in ("first execution", "split.seed: 2 -> 3"):
        project_run = _make_project_run(client, experiment)
        monkeypatch.setenv("MLFLOW_RUN_ID", project_run)
        params = PARAMS if changes == "first execution" else PARAMS | {"split": {"seed": 3}}
        execution = _run_stage(workspace, LAST_STAGE, params)
        assert execution.info.run_id == project_run
        assert execution.data.tags["changes"] == changes


def test_mlflow_run_of_a_path_tracks_in_the_store_of_the_project(
    make_project: Any, tmp_path: Path, shell: None
) -> None:
    """The user has named no store, and MLflow would use one in the working directory."""
    project: Project = make_project("called")
    change_params(project.params_file, {"sample.images": 12})
    command = ["mlflow", "run", str(project.root), "-P", "target=sample", "--env-manager", "local"]
    caller = tmp_path / "caller"
    caller.mkdir()
    done = subprocess.run(
        command, cwd=caller, env=project.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    client = MlflowClient(sqlite_address(project.root / "mlflow.db"))
    experiment = client.get_experiment_by_name("person-attributes")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(str(run.data.tags.get("dvc.stage")) for run in runs) == ["None", "sample"]
    theirs = MlflowClient(sqlite_address(caller / "mlflow.db"))
    (run,) = theirs.search_runs(["0"])
    assert str(project.root / "mlflow.db") in run.data.tags["mlflow.note.content"]
    assert run.info.status == "FINISHED"


def test_the_commit_is_omitted_without_git(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=workspace.root, check=True)
    assert git_tags(workspace) == {}
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    commit = ["git", *author, "commit", "--quiet", "--allow-empty", "--message", "Start"]
    subprocess.run(commit, cwd=workspace.root, check=True)
    assert len(git_tags(workspace)["mlflow.source.git.commit"]) == 40
    monkeypatch.setenv("PATH", "")
    assert git_tags(workspace) == {}


def test_parameters_with_any_keys_are_logged(workspace: Workspace) -> None:
    aliases = {"heads": {"mood": {"aliases": {"?": "sad", "a//b": "happy"}, "column": "mood"}}}
    client = connect(workspace)
    run = client.create_run(choose_experiment(client, workspace))
    log_params(client, run.info.run_id, aliases)
    assert client.get_run(run.info.run_id).data.params == {
        "heads.mood.aliases": "{'?': 'sad', 'a//b': 'happy'}",
        "heads.mood.column": "mood",
    }
