"""A new user clones the project and follows the README."""

import csv
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import COMMAND_SECONDS, ROOT, Project, kill
from endpoints import encode, serve

CHAMPION = "models:/person-attributes@champion"
IMAGES = 12


class Clone(Project):
    """A clone in the shell of a new user, who has Python, git and make."""

    def environment(self) -> dict[str, str]:
        foreign = ("MLFLOW_", "DVC_", "PYTHON", "PYTEST_", "MAKE", "MFLAGS", "VIRTUAL_ENV")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(foreign)
        }
        ours = str(Path(sys.executable).parent)
        others = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != ours]
        programs = [str(self.root / ".venv/bin"), str(Path(sys.base_prefix) / "bin"), *others]
        return environment | {"PATH": os.pathsep.join(programs)}


@pytest.fixture
def report(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints progress without pytest's capture, because the test takes minutes."""
    began = time.monotonic()

    def report(text: str) -> None:
        with capfd.disabled():
            spent = time.monotonic() - began
            # Also in a worker of xdist, stderr goes to the terminal.
            print(f"\nnew user, {spent:.0f} s: {text}", file=sys.stderr, flush=True)

    return report


@pytest.fixture
def clone(tmp_path: Path, report: Callable[[str], None]) -> Iterator[Clone]:
    """A clone of HEAD, with the committed parameters and dvc.lock."""
    if _ask_git("status", "--porcelain"):
        report("tests HEAD only, without uncommitted changes")
    clone = Clone(tmp_path / "person-attributes")
    _ask_git("clone", "--quiet", ".", str(clone.root))
    clone.run("git", "checkout", "--quiet", "--detach", _ask_git("rev-parse", "HEAD"))
    yield clone
    shutil.rmtree(clone.root)  # gigabytes


def _ask_git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


@pytest.mark.pipeline
@pytest.mark.new_user
def test_a_fresh_clone_trains_registers_and_serves_its_champion(
    clone: Clone, report: Callable[[str], None]
) -> None:
    output = _follow(clone.start("make", "repro"), report)
    assert re.search(
        r"^registered model +person-attributes version 1, alias champion$", output, re.M
    )
    assert f"mlflow models serve -m {CHAMPION} --env-manager uv" in output
    report("serves the champion")
    _serve(clone)
    report("labels a folder, lists the models, compares")
    _label_a_folder(clone)
    assert "champion since" in clone.run("person-attributes", "models").stdout
    compared = clone.run("person-attributes", "compare", CHAMPION, "workspace").stdout
    assert re.search(r"on the same \d+ validation rows", compared)
    report("opens the demo")
    _open_demo(clone.start("make", "demo"))
    report("finished")


def _follow(process: "subprocess.Popen[str]", report: Callable[[str], None]) -> str:
    """Reports each stage that starts, and returns the output of the command after its success."""
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if line.startswith(("Running stage", "Stage")):
                report(line.strip())
        process.wait()
    finally:
        kill(process)
    assert process.returncode == 0, "".join(lines)
    return "".join(lines)


def _serve(clone: Clone) -> None:
    mlflow = [str(clone.root / ".venv/bin/mlflow")]
    with serve(
        clone.root, clone.environment(), CHAMPION, clone.root / "serve.log", mlflow, "uv"
    ) as endpoint:
        image = encode(clone.root / "data/sample/resized/1.jpg")
        status, answers = endpoint.ask({"dataframe_records": [{"image": image}]})
    assert status == 200, answers
    assert answers[0]["gender"]["label"] in ("female", "male")


def _label_a_folder(clone: Clone) -> None:
    (clone.root / "photos").mkdir()
    for number in range(1, IMAGES + 1):
        shutil.copy(clone.root / f"data/sample/resized/{number}.jpg", clone.root / "photos")
    clone.run("person-attributes", "predict", "photos", "labels.csv")
    with (clone.root / "labels.csv").open(encoding="utf-8", newline="") as file:
        assert [row["error"] for row in csv.DictReader(file)] == [""] * IMAGES


def _open_demo(demo: "subprocess.Popen[str]") -> None:
    """Requests the page of the demo, and ends the command."""
    assert demo.stdout is not None
    try:
        lines, page = [], ""
        for line in demo.stdout:
            lines.append(line)
            if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                with urllib.request.urlopen(address[0], timeout=COMMAND_SECONDS) as answer:
                    page = answer.read().decode()
                break
        assert "<html" in page, "".join(lines)
    finally:
        kill(demo)
