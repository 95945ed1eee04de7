"""Commands run in the terminal, pipe and environment that they are started in."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import OURS, ROOT, SHIPPED, Project, change_params

from person_attributes.config import read_params


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
    params = read_params(project.params_file)
    columns = [params.data.image_column, *(head.column for head in params.heads.values())]
    (tmp_path / "röd").mkdir()
    (tmp_path / "röd" / params.data.annotations).write_text(
        f"{','.join(columns)}\n{','.join('x' for _ in columns)}\n"
    )
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


def test_a_backend_that_is_not_installed_is_refused_in_one_line(project: Project) -> None:
    process = project.start(*OURS, "lr-find", "p1", KERAS_BACKEND="theano")
    output, _ = process.communicate()
    assert (process.returncode, output.count("\n")) == (2, 1), output
    assert "expected a backend that is installed" in output


def test_a_variable_that_mlflow_reads_when_imported_is_refused_in_one_line(
    project: Project,
) -> None:
    process = project.start(*OURS, "models", MLFLOW_CONFIGURE_LOGGING="abc")
    output, _ = process.communicate()
    assert (process.returncode, output.count("\n")) == (2, 1), output
    assert "Correct or unset MLFLOW_CONFIGURE_LOGGING" in output


def test_ctrl_c_during_imports_ends_a_command_in_one_line(project: Project) -> None:
    """A package that sends the signal replaces one that the command imports."""
    package = project.root / "packages" / "pydantic.py"
    package.parent.mkdir()
    package.write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)"
    )
    paths = os.pathsep.join([str(package.parent), str(ROOT / "src")])
    process = project.start(*OURS, "check", PYTHONPATH=paths)
    output, _ = process.communicate()
    message = "interrupted. Run the command again.\n"
    assert (process.returncode, output) == (130, message)
