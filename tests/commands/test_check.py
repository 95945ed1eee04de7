"""The command `check` refuses what would make `dvc repro` fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

from person_attributes.commands.check import check
from person_attributes.config import Params
from person_attributes.errors import (
    AnnotationsError,
    ParamsError,
    ProjectError,
    SourceError,
    TrackingError,
)
from person_attributes.workspace import Workspace


@pytest.fixture(autouse=True)
def _activated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts this Python first on the path, as an activated environment does."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    (project.root / ".dvc").mkdir(parents=True)
    for folder in ("data/sample", "data/photos", "photos"):
        _write_table(project.root / folder)
    (project.root / ".gitignore").write_text("/data/\n")
    project.run("git", "init", "--quiet")
    project.run("git", "add", "--all")
    return project


def _write_table(folder: Path, header: str = "file,colour") -> None:
    folder.mkdir(parents=True)
    (folder / "labels.csv").write_text(f"{header}\n0.jpg,red\n")


def _check(project: Project, params: Params, source: str, **model: object) -> None:
    heads = {"colour": {"column": "colour", "classes": ["red", "green"]}}
    data = {"source": source, "annotations": "labels.csv", "image_column": "file"}
    changes: dict[str, object] = {"heads": heads, "split.group_by.column": "file"}
    changes |= {f"data.{key}": value for key, value in data.items()}
    changes |= {f"model.{key}": value for key, value in model.items()}
    check(Workspace(project.root), params.change(changes))


def test_a_folder_outside_of_git_is_refused(tmp_path: Path, params: Params) -> None:
    with pytest.raises(ProjectError, match=r"expected a git repository.* Run git init"):
        check(Workspace(tmp_path), params)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    check(Workspace(tmp_path), params)


def test_dvc_without_git_is_accepted(tmp_path: Path, params: Params) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    check(Workspace(tmp_path), params)


@pytest.mark.parametrize("content", ["[core]\nno_scm = maybe\n", "core\n"])
def test_a_broken_configuration_of_dvc_is_reported_in_one_line(
    tmp_path: Path, params: Params, content: str
) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(content)
    with pytest.raises(ProjectError, match=r"expected the configuration of DVC") as raised:
        check(Workspace(tmp_path), params)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("program", "reason"), [("", "no such command"), ("echo No module >&2; exit 1", "No module")]
)
def test_a_shell_without_the_environment_is_refused(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    if program:
        (tmp_path / "python").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProjectError, match=f"Received: {reason}. Run source .venv/bin/activate"):
        check(Workspace(tmp_path), params)


@pytest.mark.parametrize("source", ["data", "data/", ".", "..", "", "data/packs", "models", "/"])
def test_a_source_that_contains_outputs_is_refused(
    project: Project, params: Params, source: str
) -> None:
    with pytest.raises(ParamsError, match=r"data\.source: expected .* without outputs of stages"):
        _check(project, params, source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("models/phases/photos", "which is in models/phases"),
        ("models/selected", "which contains models/selected"),
        ("reports/evaluation/photos", "which is in reports/evaluation"),
        ("photos.dvc", "which DVC takes for one of its own files"),
    ],
)
def test_a_source_that_stages_or_dvc_would_change_is_refused(
    project: Project, params: Params, source: str, reason: str
) -> None:
    (project.root / source).mkdir(parents=True)
    with pytest.raises(ParamsError, match=f"{reason}. Move the data, and set data.source"):
        _check(project, params, source)


def test_a_source_that_is_a_link_to_itself_is_refused(project: Project, params: Params) -> None:
    (project.root / "loop").symlink_to("loop")
    with pytest.raises(SourceError, match="a link to loop, which does not exist"):
        _check(project, params, "loop")


def test_missing_starting_weights_are_refused(project: Project, params: Params) -> None:
    weights = params.model.starting_weights.model_dump(mode="json")
    with pytest.raises(
        ParamsError, match=r"weights\.h5: no such file\. Correct the path, or leave"
    ):
        _check(project, params, "photos", starting_weights=weights | {"source": "weights.h5"})
    source = {"source": "models:/signs@champion"}
    _check(project, params, "photos", starting_weights=weights | source)


def test_a_folder_whose_name_mlflow_decodes_is_refused(tmp_path: Path, params: Params) -> None:
    root = tmp_path / "my%20project"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    with pytest.raises(TrackingError, match=r"MLflow decodes the % in this path.* Rename"):
        check(Workspace(root), params)


def test_a_folder_in_place_of_the_store_is_refused(project: Project, params: Params) -> None:
    (project.root / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match=r"Received: a folder\. Remove or rename it"):
        _check(project, params, "photos")


def test_without_git_nothing_is_said_about_its_files(
    project: Project,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (project.root.parent / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("PATH", str(project.root.parent))
    _check(project, params, "data/photos")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("header", ["name,colour", "file,color", "0.jpg,red", "file,colour,colour"])
def test_a_table_without_the_columns_is_refused(
    project: Project, params: Params, header: str
) -> None:
    _write_table(project.root.parent / "shop", header)
    with pytest.raises(AnnotationsError, match=r"^labels\.csv:1: "):
        _check(project, params, "../shop")
    (project.root.parent / "shop/labels.csv").unlink()
    with pytest.raises(AnnotationsError, match=r"contains no file 'labels\.csv'"):
        _check(project, params, "../shop")


@pytest.mark.parametrize(
    ("source", "is_in_copies"),
    [("data/sample", True), ("photos", True), ("data/photos", False), ("../shop", False)],
)
def test_a_source_that_experiments_will_lack_is_reported(
    project: Project,
    params: Params,
    source: str,
    is_in_copies: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _write_table(project.root.parent / "shop")
    _check(project, params, source)
    _check(project, params, str(project.root / source))
    lines = capsys.readouterr().out.splitlines()
    expected = (
        f"check: data.source: {source} is tracked by neither git nor DVC. dvc exp run --queue "
        "and --temp will not find it: set an absolute path, or move it to a folder of the "
        "project that git does not ignore, and run dvc add."
    )
    assert lines == ([] if is_in_copies else [expected])


def test_a_source_of_which_git_ignores_files_is_reported(
    project: Project, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (".DS_Store", "1.jpg", "0.jpg"):
        (project.root / "photos" / name).touch()
    (project.root / ".gitignore").write_text("*.jpg\n")
    _check(project, params, "photos")
    received = "photos/0.jpg, one of 2 files, is tracked by neither git nor DVC"
    assert f"data.source: {received}" in capsys.readouterr().out
    (project.root / "photos.dvc").touch()
    _check(project, params, "photos")
    assert "will not find it: run git add photos.dvc." in capsys.readouterr().out
    project.run("git", "add", "photos.dvc")
    _check(project, params, "photos")
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "is_in_copies"),
    [("../shop", False), ("data/photos", False), ("photos", True), ("/", True)],
)
def test_a_source_that_is_a_link_is_in_copies_if_its_target_is(
    project: Project,
    params: Params,
    target: str,
    is_in_copies: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shop = project.root.parent / "shop"
    _write_table(shop)
    (project.root / "link").symlink_to(shop if target == "/" else target)
    project.run("git", "add", "link")
    _check(project, params, "link")
    notes = capsys.readouterr().out
    assert ("link, a link to" not in notes) == is_in_copies


@pytest.mark.parametrize(("epochs", "only_rises"), [(1, True), (2, False)])
def test_a_phase_whose_learning_rate_only_rises_is_reported(
    tmp_path: Path,
    params: Params,
    epochs: int,
    only_rises: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    changes = {"phases.p2.schedule": "cosine", "phases.p2.epochs": epochs}
    check(Workspace(tmp_path), params.change(changes))
    note = (
        "check: phases.p2: the learning rate only rises: the phase has epochs 1, and "
        "schedules.cosine has warmup_epochs 1. Raise epochs, or choose another schedule."
    )
    assert capsys.readouterr().out.splitlines() == ([note] if only_rises else [])
