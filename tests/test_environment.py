"""`make env`, without installing anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("bash", "cat", "date", "grep", "head", "make", "mktemp", "rm", "touch")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs that has no Python and no uv."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS:
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    return folder


def _check_out(place: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        place.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, place)
    shutil.copytree(ROOT / "scripts", place / "scripts")
    return place


def _make(place: Path, tools: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # `make test PYTHON=...` hands its options on.
    outer = {"PYTHON", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    environment = {key: value for key, value in os.environ.items() if key not in outer}
    return subprocess.run(
        ["make", *arguments],
        cwd=place,
        env=environment | {"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


def _said(ended: subprocess.CompletedProcess[str]) -> str:
    """What `make env` said in its one line; the next one is make's own."""
    assert ended.returncode == 2
    said, *by_make = ended.stderr.splitlines()
    assert all(line.startswith("make") for line in by_make)
    return said


def test_a_machine_without_python_and_uv_is_told_what_to_install(
    tmp_path: Path, tools: Path
) -> None:
    said = _said(_make(_check_out(tmp_path / "my photos"), tools, "env"))
    assert said == (
        "make env: found neither python3 nor uv. Install Python 3.11, 3.12 or 3.13, or uv "
        "(https://docs.astral.sh/uv)."
    )


def test_pyenv_may_lack_the_python_of_the_version_file(tmp_path: Path, tools: Path) -> None:
    place = _check_out(tmp_path / "here")
    shutil.copy(ROOT / ".python-version", place)
    mkdir, chmod = shutil.which("mkdir"), shutil.which("chmod")
    # pyenv's python3 fails beside a .python-version; elsewhere it makes an environment without pip.
    shim = tools / "python3"
    shim.write_text(
        f"#!{shutil.which('bash')}\n[ ! -e .python-version ] || exit 127\n"
        f"{mkdir} bin; echo exit 1 > bin/python; {chmod} +x bin/python\n",
        encoding="utf-8",
    )
    shim.chmod(0o755)
    ended = _make(place, tools, "env")
    assert "make env: pip could not install uv" in ended.stderr


@pytest.mark.parametrize("name", ["a$b", "a'b", 'a"b', "a`b", "a:b"])
def test_a_path_that_scripts_cannot_name_is_refused(tmp_path: Path, tools: Path, name: str) -> None:
    said = _said(_make(_check_out(tmp_path / name), tools, "env"))
    assert name in said
    assert said.endswith("Move the checkout.")


def test_an_environment_is_kept_until_the_checkout_moves(tmp_path: Path, tools: Path) -> None:
    place = _check_out(tmp_path / "here")
    (place / ".venv").mkdir()
    (place / ".venv/installed").write_text(f"{place}\n", encoding="utf-8")
    assert "environment.sh" not in _make(place, tools, "--dry-run", "env").stdout
    moved = place.rename(tmp_path / "there")
    assert "environment.sh" in _make(moved, tools, "--dry-run", "env").stdout
