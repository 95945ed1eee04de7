"""The checks of `make env`, without installing anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("bash", "cat", "date", "grep", "head", "make", "mktemp", "rm", "touch")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs without Python and uv."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS:
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    return folder


def _check_out(folder: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        folder.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    return folder


def _make(folder: Path, tools: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # `make test PYTHON=...` passes its options to child processes.
    outer = {"PYTHON", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    environment = {key: value for key, value in os.environ.items() if key not in outer}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment | {"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


def _read_error(done: subprocess.CompletedProcess[str]) -> str:
    """Returns the error of `make env`, which has one line; make itself prints the others."""
    assert done.returncode == 2
    error, *of_make = done.stderr.splitlines()
    assert all(line.startswith("make") for line in of_make)
    return error


def test_without_python_and_uv_the_error_explains_what_to_install(
    tmp_path: Path, tools: Path
) -> None:
    error = _read_error(_make(_check_out(tmp_path / "my photos"), tools, "env"))
    assert error == (
        "make env: found neither python3 nor uv. Install Python 3.11, 3.12 or 3.13, or uv "
        "(https://docs.astral.sh/uv)."
    )


def test_pyenv_may_lack_the_python_of_the_version_file(tmp_path: Path, tools: Path) -> None:
    folder = _check_out(tmp_path / "here")
    shutil.copy(ROOT / ".python-version", folder)
    mkdir, chmod = shutil.which("mkdir"), shutil.which("chmod")
    # This python3 fails beside a .python-version, like pyenv's. Its environments have no pip.
    shim = tools / "python3"
    shim.write_text(
        f"#!{shutil.which('bash')}\n[ ! -e .python-version ] || exit 127\n"
        f"{mkdir} bin; echo exit 1 > bin/python; {chmod} +x bin/python\n",
        encoding="utf-8",
    )
    shim.chmod(0o755)
    done = _make(folder, tools, "env")
    assert "make env: pip could not install uv" in done.stderr


@pytest.mark.parametrize("name", ["a$b", "a'b", 'a"b', "a`b", "a:b"])
def test_a_path_with_special_characters_is_refused(tmp_path: Path, tools: Path, name: str) -> None:
    error = _read_error(_make(_check_out(tmp_path / name), tools, "env"))
    assert name in error
    assert error.endswith("Move the checkout.")


def test_an_environment_is_kept_until_the_checkout_moves(tmp_path: Path, tools: Path) -> None:
    folder = _check_out(tmp_path / "here")
    (folder / ".venv").mkdir()
    (folder / ".venv/installed").write_text(f"{folder}\n", encoding="utf-8")
    assert "environment.sh" not in _make(folder, tools, "--dry-run", "env").stdout
    moved = folder.rename(tmp_path / "there")
    assert "environment.sh" in _make(moved, tools, "--dry-run", "env").stdout
