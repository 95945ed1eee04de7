"""Metadata of the repository: version, citation, workflows, pre-commit and issue forms."""

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, read_yaml

from person_attributes.cli import main

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
STEPS = [*WORKFLOWS, *sorted((ROOT / ".github/actions").rglob("action.y*ml"))]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _project() -> dict[str, Any]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project: dict[str, Any] = content["project"]
    return project


def _locked(package: str) -> str:
    lock = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
    found = re.search(rf"^{package}==(\S+)", lock, re.MULTILINE)
    assert found is not None
    return found[1]


def test_version_prints_the_version_and_exits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert not ended.value.code
    assert capsys.readouterr().out == f"person-attributes {version('person-attributes')}\n"


def test_only_version_needs_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package is not installed in the environment of `mlflow run`."""
    # Metadata is found through sys.path.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for arguments, code in ((["--help"], 0), (["--version"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert (ended.value.code or 0) == code
    assert capsys.readouterr().err == (
        "--version: person-attributes is not installed. Run make env.\n"
    )


def test_changelog_and_citation_have_the_current_version() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == _project()["version"]
    assert citation["license"] == _project()["license"]
    heading = f"## [{citation['version']}] - {citation['date-released']}"
    assert heading in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()


def test_the_citation_has_the_required_keys() -> None:
    """The required keys of version 1.2.0 of the schema, also in each reference."""
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"authors", "message", "title"} <= set(citation)
    assert len(citation["references"]) == 2
    for reference in citation["references"]:
        assert {"authors", "title", "type"} <= set(reference)
    for cited in (citation, *citation["references"]):
        for author in cited["authors"]:
            assert "name" in author or {"family-names", "given-names"} <= set(author)


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_workflows_are_read_only_and_canceled_by_newer_pushes(path: Path) -> None:
    workflow = read_yaml(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 60


@pytest.mark.parametrize("path", STEPS, ids=_name)
def test_actions_are_pinned_to_a_commit(path: Path) -> None:
    used = re.findall(r"uses: (.+)", path.read_text(encoding="utf-8"))
    assert used
    for action in used:
        assert action.startswith("./") or re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", action)


def test_workflows_run_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    jobs = read_yaml(ROOT / ".github/workflows/check.yaml")["jobs"]
    matrices = [job["strategy"]["matrix"] for job in (jobs["tests"], jobs["extras"])]
    run = {*matrices[0]["target"], *(entry["target"] for entry in matrices[1]["include"]), "lint"}
    assert run <= targets


def test_pre_commit_uses_the_locked_ruff_and_pins_repositories() -> None:
    repositories = {
        repository["repo"]: repository
        for repository in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    }
    ruff = repositories["https://github.com/astral-sh/ruff-pre-commit"]
    assert ruff["rev"] == f"v{_locked('ruff')}"
    for name, repository in repositories.items():
        assert name == "local" or re.fullmatch(r"v[\d.]+", repository["rev"])


def test_the_default_python_is_the_oldest_supported_one() -> None:
    python = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    assert _project()["requires-python"].startswith(f">={python},")


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_have_unique_ids(name: str) -> None:
    form = read_yaml(ROOT / f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= set(form)
    asked = [element["id"] for element in form["body"] if element["type"] != "markdown"]
    assert len(asked) == len(set(asked)) > 1


def test_the_package_is_marked_as_typed() -> None:
    assert (ROOT / "src/person_attributes/py.typed").is_file()
