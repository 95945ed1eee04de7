"""Earlier outputs are restored; killed and concurrent processes damage nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project, change_params, kill
from mlflow.tracking import MlflowClient

from person_attributes.digests import digest_path
from person_attributes.pipeline.run_cache import RunCache
from person_attributes.tracking.database import sqlite_address
from person_attributes.workspace import Workspace

RESTORED = "sample: restored from DVC's run cache"
COMPUTED = "sample: drew 4 people"
MEASURES = ("folder/1.json", "folder/below/2.json", "table.csv", "metrics.json")
SAMPLE = (sys.executable, "-m", "person_attributes", "sample")


MEASURE = """\
stages:
  measure:
    cmd: measure
    deps: [input.txt]
    outs:
      - folder: {persist: true}
      - table.csv: {persist: true, cache: false}
    metrics:
      - metrics.json: {persist: true, cache: false}
"""


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A small project in the process of a DVC stage; its outputs changed after saving."""
    (tmp_path / ".dvc").mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text(MEASURE)
    (tmp_path / "input.txt").write_text("input")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "measure")
    workspace = Workspace(tmp_path)
    run_cache = RunCache(workspace, "measure")
    assert not run_cache.restore()
    _write_measures(workspace, "saved")
    run_cache.save()
    _write_measures(workspace, "later")
    return workspace


def _write_measures(workspace: Workspace, content: str) -> None:
    for name in MEASURES:
        path = workspace.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"content": content}))


def _read_measures(workspace: Workspace) -> set[str]:
    texts = ((workspace.root / name).read_text() for name in MEASURES)
    return {json.loads(text)["content"] for text in texts}


def test_metrics_in_git_are_restored_with_the_other_outputs(measured: Workspace) -> None:
    (measured.root / "folder/stale.txt").write_text("earlier")
    assert RunCache(measured, "measure").restore()
    assert _read_measures(measured) == {"saved"}
    assert not (measured.root / "folder/stale.txt").exists()


def test_other_inputs_are_not_restored(measured: Workspace) -> None:
    (measured.root / "input.txt").write_text("another")
    assert not RunCache(measured, "measure").restore()
    assert _read_measures(measured) == {"later"}


@pytest.mark.parametrize("damage", [None, "damaged"])
def test_a_damaged_cache_is_repaired(measured: Workspace, damage: str | None) -> None:
    """A missing or damaged object is not restored, and saving repairs it; for each object."""
    cache = measured.root / ".dvc/cache/files"
    before = digest_path(cache)
    for path in [path for path in cache.rglob("*") if path.is_file()]:
        path.unlink()
        if damage:
            path.write_text(damage)
            path.chmod(0o444)
        run_cache = RunCache(measured, "measure")
        assert not run_cache.restore()
        assert _read_measures(measured) == {"later"}, "nothing was overwritten"
        _write_measures(measured, "saved")
        run_cache.save()
        assert digest_path(cache) == before
        _write_measures(measured, "later")
    assert RunCache(measured, "measure").restore()


@pytest.fixture(scope="module")
def prepared(make_project: Callable[[str], Project]) -> Project:
    """A project whose sample was drawn with seed 1, then with seed 2; do not change it."""
    project = make_project("prepared")
    for seed in (1, 2):
        change_params(project.params_file, {"sample.seed": seed, "sample.images": 4})
        project.execute("sample")
    project.commit("Run")
    return project


@pytest.fixture
def project(prepared: Project, tmp_path: Path) -> Project:
    return prepared.copy(tmp_path / "project")


def _draw_with(project: Project, seed: int, *options: str) -> str:
    change_params(project.params_file, {"sample.seed": seed})
    return _repro(project, *options)


def _repro(project: Project, *options: str) -> str:
    return project.run("dvc", "repro", *options, "sample").stdout


def _digest(project: Project) -> str:
    return digest_path(project.root / "data/sample")


def _count_runs(project: Project) -> int:
    client = MlflowClient(sqlite_address(project.root / "mlflow.db"))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return len(client.search_runs(experiments))


def test_a_parameter_that_is_changed_back_computes_nothing(project: Project) -> None:
    second, runs = _digest(project), _count_runs(project)
    assert RESTORED in _draw_with(project, 1)
    assert _digest(project) != second
    assert RESTORED in _draw_with(project, 2)
    assert _digest(project) == second
    assert _count_runs(project) == runs
    assert project.repro("sample") == []
    assert project.run("git", "status", "--porcelain").stdout == "", "dvc.lock is unchanged"


def test_a_forced_stage_is_computed(project: Project) -> None:
    second = _digest(project)
    assert COMPUTED in _draw_with(project, 1, "-sf")
    # In a queue of experiments, no parent process has the option on its command line.
    code = "from dvc.repo import Repo; Repo().reproduce('sample', force=True)"
    assert COMPUTED in project.run(sys.executable, "-c", code).stdout
    assert RESTORED in _draw_with(project, 2)
    assert _digest(project) == second


def test_links_to_the_cache_are_replaced(project: Project) -> None:
    project.run("dvc", "config", "cache.type", "hardlink")
    second = _digest(project)
    assert RESTORED in _draw_with(project, 1)
    assert COMPUTED in _draw_with(project, 3)
    assert RESTORED in _draw_with(project, 2)
    assert (project.root / "data/sample/resized/1.jpg").stat().st_nlink > 1
    assert _digest(project) == second


def test_a_clone_restores_outputs_from_a_remote(project: Project, tmp_path: Path) -> None:
    project.run("dvc", "remote", "add", "--default", "team", str(tmp_path / "remote"))
    project.run("dvc", "push", "--run-cache", "sample")
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "--quiet", str(project.root), str(clone.root))
    shutil.copy(project.root / ".dvc/config", clone.root / ".dvc/config")
    (clone.root / "dvc.lock").unlink()
    assert RESTORED in _repro(clone, "--pull")
    assert _digest(clone) == _digest(project)


def test_a_stage_that_is_run_by_hand_is_computed_and_saved(project: Project) -> None:
    change_params(project.params_file, {"sample.seed": 3})
    for _ in range(2):
        assert COMPUTED in project.cli("sample").stdout
    assert RESTORED in _repro(project)


def test_stages_run_without_dvc_and_git(project: Project, tmp_path: Path) -> None:
    bare = project.copy(tmp_path / "bare")
    shutil.rmtree(bare.root / ".dvc")
    shutil.rmtree(bare.root / ".git")
    assert COMPUTED in bare.cli("sample").stdout
    assert _digest(bare) == _digest(project)


def test_a_killed_stage_keeps_the_outputs(project: Project) -> None:
    before = _digest(project)
    change_params(project.params_file, {"sample.images": 40000})
    dvc = project.start("dvc", "repro", "sample")
    _wait_until_writing(project, dvc)
    kill(dvc)
    assert _digest(project) == before
    change_params(project.params_file, {"sample.images": 4, "sample.seed": 1})
    assert RESTORED in _repro(project)
    assert _find_temporary(project) == []


def test_a_second_process_of_a_stage_is_refused_in_one_line(project: Project) -> None:
    """For example, if `dvc` was killed and its stage still runs."""
    before = _digest(project)
    change_params(project.params_file, {"sample.images": 40000})
    orphan = project.start(*SAMPLE)
    _wait_until_writing(project, orphan)
    refused = project.cli("sample", code=2)
    assert refused.stderr.startswith("sample: another process runs this stage in ")
    assert refused.stderr.count("\n") == 1
    assert orphan.poll() is None
    os.killpg(orphan.pid, signal.SIGTERM)
    orphan.communicate()
    assert _digest(project) == before
    assert _find_temporary(project) == []


def _find_temporary(project: Project) -> list[Path]:
    return list((project.root / "data").glob(".writing-*"))


def _wait_until_writing(project: Project, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None and not _find_temporary(project):
        time.sleep(0.01)
    assert process.poll() is None
