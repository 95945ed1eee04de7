"""Consistency between files of the project."""

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from conftest import ROOT, read_yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from person_attributes import errors
from person_attributes.cli import main


def test_photographs_labels_and_temporary_files_are_ignored_by_git(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    default = read_yaml(ROOT / "MLproject")["entry_points"]["predict"]["parameters"]["output"]
    private = [default["default"], "predictions.csv.part.json", "labels.parquet", "photos.zip"]
    private += ["photos/1.jpg", "images/1.jpg", "data/photos/1.jpg", "docs/.writing-7-page.md"]
    private += ["corrections/corrections.csv", "corrections/images/1.jpg"]
    names = [*private, "photos.dvc", "docs/images/data.png", "reports/metrics.json"]
    done = subprocess.run(
        ["git", "check-ignore", *names], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == private


def test_every_error_is_in_the_documented_hierarchy() -> None:
    documented = errors.__doc__ or ""
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(classes) > 5
    for error in classes:
        assert issubclass(error, errors.PersonAttributesError)
        assert error.__name__ in documented


def test_conda_environment_has_the_locked_versions() -> None:
    conda = read_yaml(ROOT / "conda.yaml")
    assert set(conda) == {"name", "channels", "dependencies"}
    python, pip, listed = conda["dependencies"]
    assert re.fullmatch(r"python=3\.\d+", python), "a patch release may not exist on all platforms"
    assert pip == "pip"
    assert listed["pip"] == (ROOT / "requirements.lock").read_text().splitlines()


def test_runtime_versions_equal_the_tested_versions() -> None:
    runtime, tested = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert len(runtime) > 150
    assert runtime.items() < tested.items()
    assert not {"atheris", "boto3", "mypy", "playwright", "pytest"} & runtime.keys()


def test_pinned_dependencies_have_the_locked_versions() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = content["project"]["optional-dependencies"]
    named = content["project"]["dependencies"] + extras["shared"]
    plain = [re.sub(r"\s*;", " ;", re.sub(r"\[.*?\]", "", name)) for name in named]
    pinned = {name for name in plain if "==" in name}
    assert len(pinned) > 15
    assert pinned <= set((ROOT / "requirements-dev.lock").read_text().splitlines())
    # The stub of opencv-python depends on the pinned OpenCV.
    stub = tomllib.loads((ROOT / "third_party/opencv-python-stub/pyproject.toml").read_text())
    assert set(stub["project"]["dependencies"]) <= pinned


def test_the_documented_number_of_served_packages_is_about_right() -> None:
    """The requirements of a registered model, with all that they require here."""
    source = (ROOT / "src/person_attributes/registry/model.py").read_text()
    (listed,) = re.findall(r"^_SERVING_PACKAGES = \((.*?)\)$", source, re.MULTILINE | re.DOTALL)
    names, left = set(), [Requirement(name) for name in re.findall(r'"(.*?)"', listed)]
    while left:
        requirement = left.pop()
        key = canonicalize_name(requirement.name), *sorted(requirement.extras)
        if key in names:
            continue
        names.add(key)
        extras = ("", *requirement.extras)
        for line in distribution(requirement.name).requires or []:
            found = Requirement(line)
            if not found.marker or any(found.marker.evaluate({"extra": name}) for name in extras):
                left.append(found)
    (documented,) = re.findall(r"(\d+) packages", (ROOT / "docs/commands.md").read_text())
    assert int(documented) == pytest.approx(len({name for name, *_ in names}), abs=5)


def test_the_server_has_the_pinned_versions() -> None:
    pins = set(re.findall(r"[\w\[\]-]+==[\w.]+", (ROOT / "deploy/Dockerfile").read_text()))
    assert len(pins) == 4
    assert pins < set(re.findall(r"[\w\[\]-]+==[\w.]+", (ROOT / "pyproject.toml").read_text()))


def test_mlproject_entry_points_are_commands() -> None:
    project = read_yaml(ROOT / "MLproject")
    assert project["conda_env"] == "conda.yaml"
    stages = set(read_yaml(ROOT / "dvc.yaml")["stages"])
    assert stages < set(project["entry_points"])
    for name in stages:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
