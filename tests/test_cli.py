"""The output of a command suits the terminal or the pipe that it is printed to."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import OURS, ROOT, SHIPPED, Project, change_params


class _Copied(Project):
    """A project without a package: the installed one runs."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(ROOT / "src")}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose check prints a note on a source outside of it."""
    project = _Copied(tmp_path / "project")
    project.root.mkdir()
    shutil.copy(SHIPPED, project.params_file)
    change_params(project.params_file, {"data.source": "../röd"})
    (tmp_path / "röd").mkdir()
    project.run("git", "init", "--quiet")
    return project


def test_a_name_that_the_terminal_cannot_show_is_escaped(project: Project) -> None:
    process = project.start(*OURS, "check", PYTHONIOENCODING="ascii")
    output, _ = process.communicate()
    assert (process.returncode, "../r\\xf6d is tracked by neither" in output) == (0, True), output


def test_a_closed_pipe_ends_a_command_without_a_message(project: Project) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as pipe:
        done = subprocess.run(
            [*OURS, "check"],
            cwd=project.root,
            env=project.environment(),
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (128 + 13, b"")
