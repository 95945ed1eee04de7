"""The command `demo` in a real browser."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import CHROMIUM, COMMAND_SECONDS, OURS, ROOT, run_in_process
from playwright.sync_api import FilePayload, Page, Request, sync_playwright
from tiny_model import CHAMPION, Registered

WATCHMAN = """
import os, sys
def write(text):
    with open(os.environ["WATCHED"], "a") as file:
        file.write(f"{text}\\n")
def watch(event, arguments):
    if event == "socket.connect" and not isinstance(arguments[1], str | bytes):
        seen = arguments[1][0]
    elif event == "socket.getaddrinfo":
        seen = arguments[0]
    else:
        return
    if seen not in ("127.0.0.1", "::1", "localhost", None):
        write(seen)
sys.addaudithook(watch)
write("watching")
"""
"""Runs in the process of the command, and records all addresses outside this machine."""


@dataclass(frozen=True)
class Opened:
    """The running command, and its page in a browser."""

    process: subprocess.Popen[str]
    page: Page
    requested: list[str]
    temporary: Path
    watched: Path

    def show(self, content: bytes, name: str) -> None:
        """Drops a file onto the page."""
        file: FilePayload = {"name": name, "mimeType": "image/jpeg", "buffer": content}
        self.page.locator("#photograph input[type=file]").first.set_input_files(file)


@pytest.fixture
def opened(registered: Registered, tmp_path: Path) -> Iterator[Opened]:
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCHMAN)
    temporary, watched = tmp_path / "temporary", tmp_path / "watched"
    temporary.mkdir()
    process = subprocess.Popen(
        (*OURS, "demo"),
        cwd=registered.root,
        env=registered.environment(
            PYTHONPATH=f"{tmp_path / 'watch'}{os.pathsep}{ROOT / 'src'}",
            WATCHED=str(watched),
            TMPDIR=str(temporary),
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line
        requested: list[str] = []
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(1000 * COMMAND_SECONDS)
            page.on("request", lambda request: requested.append(_address(request)))
            page.goto(line.split(" at ")[1].split()[0])
            page.locator("#photograph input[type=file]").first.wait_for(state="attached")
            yield Opened(process, page, requested, temporary, watched)
            browser.close()
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def _address(request: Request) -> str:
    return str(request.url)


def test_the_page_shows_the_answer_of_the_model_and_makes_no_outside_requests(
    registered: Registered, opened: Opened, people: Path
) -> None:
    content = min(people.rglob("*.jpg")).read_bytes()

    opened.show(content, "person.jpg")
    opened.page.locator(".heat").first.wait_for(state="attached")

    answers = _ask_model(registered, content)
    heads = opened.page.locator(".head")
    assert [head.get_attribute("data-head") for head in heads.all()] == list(answers)
    for head, answer in answers.items():
        shown = opened.page.locator(f"[data-head='{head}']")
        assert shown.locator(".title b").inner_text() == answer["label"]
        classes = shown.locator(".class").all()
        bars = {
            bar.get_attribute("data-class"): float(bar.get_attribute("data-probability") or "")
            for bar in classes
        }
        assert bars == pytest.approx(answer["probabilities"])
    assert opened.page.locator(".heat:visible").count() == 0
    opened.page.locator("[data-head='age'] input").check()
    assert opened.page.locator(".heat:visible").get_attribute("alt") == ("Heat map for age")
    assert not list(opened.temporary.rglob("*.jp*g"))
    outside = [
        url
        for url in opened.requested
        if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))
    ]
    assert not outside
    assert set(opened.watched.read_text().split()) == {"watching"}


def test_a_broken_file_is_one_sentence_and_sigterm_ends_the_command(
    opened: Opened, people: Path
) -> None:
    whole = min(people.rglob("*.jpg")).read_bytes()

    opened.show(whole[: len(whole) // 2], "half.jpg")

    refused = opened.page.locator(".refused")
    refused.wait_for()
    assert refused.inner_text().startswith("This file cannot be read: ")
    assert "\n" not in refused.inner_text()
    assert opened.page.locator(".head").count() == 0

    os.kill(opened.process.pid, signal.SIGTERM)
    assert opened.process.wait(COMMAND_SECONDS) == 0
    # Not even the file of ONNX Runtime's telemetry.
    assert not list(opened.temporary.iterdir())


@pytest.mark.parametrize("model", ["models:/person-attributes@nobody", "models:/other/1"])
def test_a_missing_model_is_one_line(registered: Registered, model: str) -> None:
    environment = registered.environment()
    done = run_in_process(registered.root, environment, ("demo", "--model", model), code=2)
    assert done.stderr.startswith(f"{model}: cannot be loaded: ")
    assert len(done.stderr.splitlines()) == 1


def _ask_model(registered: Registered, content: bytes) -> dict[str, Any]:
    """Asks in another process: loading a model prepends its code to the import path."""
    code = (
        "import base64, json, sys, mlflow, pandas\n"
        f"mlflow.set_tracking_uri('sqlite:///{registered.root / 'mlflow.db'}')\n"
        "table = pandas.DataFrame({'image': [sys.stdin.read()]})\n"
        f"row = mlflow.pyfunc.load_model({CHAMPION!r}).predict(\n"
        "    table, params={'all_probabilities': True, 'on_error': 'answer'}).iloc[0]\n"
        "print(json.dumps({head: row[head] for head in row.index if isinstance(row[head], dict)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=base64.b64encode(content).decode(),
        cwd=registered.root,
        env=registered.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers
