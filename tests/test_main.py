"""The code that DVC digests is the code that runs, whichever package is installed."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from conftest import OURS, Project, change_params

EDITED = "src/person_attributes/data/sample.py"


@dataclass(frozen=True)
class Clone(Project):
    """A project in an environment where the package of another project is installed."""

    installed: Path = Path()

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(self.installed / "src")}


@pytest.fixture(scope="module")
def clone(
    make_project: Callable[[str], Project], tmp_path_factory: pytest.TempPathFactory
) -> Clone:
    """A clone whose own package prints a line in the stage `sample`; another one is installed."""
    other = make_project("other")
    change_params(other.params_file, {"sample.images": 4})
    copy = other.copy(tmp_path_factory.mktemp("clone") / "project")
    _edit(copy, "the code of the clone")
    return Clone(copy.root, other.root)


def _edit(project: Project, text: str) -> None:
    path = project.root / EDITED
    before, _, _ = path.read_text(encoding="utf-8").partition("\nprint(")
    path.write_text(f"{before}\nprint({text!r})\n", encoding="utf-8")


def test_a_clone_runs_its_own_code_in_the_environment_of_another_project(clone: Clone) -> None:
    assert "the code of the clone" in clone.run("dvc", "repro", "sample").stdout
    elsewhere = replace(clone, root=clone.installed)
    assert "the code of the clone" not in elsewhere.cli("sample").stdout


def test_the_switch_keeps_the_process_and_its_options(clone: Clone) -> None:
    code = "import os, sys; print('process', os.getpid(), sys.flags.dont_write_bytecode)"
    path = clone.root / EDITED
    kept = path.read_text(encoding="utf-8")
    path.write_text(f"{kept}\n{code}\n", encoding="utf-8")
    process = clone.start(sys.executable, "-B", "-m", "person_attributes", "sample")
    output, _ = process.communicate()
    assert f"process {process.pid} 1" in output
    path.write_text(kept, encoding="utf-8")


def test_code_of_another_project_is_refused_in_one_line(clone: Clone) -> None:
    """With -E, Python ignores PYTHONPATH, which would select the right package."""
    code = (
        f"import sys; sys.path.insert(0, {str(clone.installed / 'src')!r});"
        "from person_attributes.__main__ import main; main()"
    )
    refused = clone.run(sys.executable, "-E", "-c", code, "check", code=2)
    assert f"{clone.root / 'src/person_attributes'}: expected to run this" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["a:b", "{a}"])
def test_a_path_that_pythonpath_or_dvc_does_not_accept_is_refused_in_one_line(
    clone: Clone, tmp_path: Path, name: str
) -> None:
    moved = replace(clone, root=clone.copy(tmp_path / name).root)
    refused = moved.run(*OURS, "check", code=2)
    assert f"{moved.root}: expected a path that PYTHONPATH and DVC accept" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_an_experiment_runs_the_code_that_was_queued(clone: Clone, tmp_path: Path) -> None:
    project = replace(clone, root=clone.copy(tmp_path / "project").root)
    _edit(project, "queued code")
    project.run("dvc", "exp", "run", "--queue", "--name", "queued", "sample")
    _edit(project, "later code")
    assert "later code" in project.run("dvc", "exp", "run", "--temp", "sample").stdout
    project.run("dvc", "exp", "run", "--run-all")
    logged = project.run("dvc", "queue", "logs", "queued").stdout
    assert "queued code" in logged
    assert "later code" not in logged
