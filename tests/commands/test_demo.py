"""The command `demo`: its endpoints, and its page in a real browser."""

import base64
import contextlib
import csv
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import CHROMIUM, COMMAND_SECONDS, OURS, ROOT, change_params, run_in_process
from endpoints import serve
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, sync_playwright
from tiny_model import CHAMPION, Registered

from person_attributes.config import read_params
from person_attributes.data.folder import FolderSource
from person_attributes.data.ingest import ingest

PRETRAINED = "models:/person-attributes@pretrained"
HEADS = 8
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
class Demo:
    """The running command."""

    process: subprocess.Popen[str]
    address: str
    temporary: Path
    watched: Path

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Sends a request; returns the status and the body. Other headers replace the defaults."""
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"))
        sent = {"Content-Type": "application/octet-stream"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        with contextlib.closing(connection):
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            content = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(content) if is_json else content.decode()


@pytest.fixture(scope="module")
def versions(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """A project with two versions; the tests of this file write their output here."""
    copied = registered.copy(tmp_path_factory.mktemp("demo") / "workspace")
    (copied.root / "pretrained").symlink_to(ROOT / "pretrained")
    change_params(copied.root / "params.yaml", {"registry.serving.max_image_megabytes": 1.0})
    run_in_process(copied.root, copied.environment(), ("pretrained",), code=0)
    return copied


@pytest.fixture(scope="module")
def running(versions: Registered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo of both versions, with corrections."""
    options = ["--model", CHAMPION, "--model", PRETRAINED, "--corrections", "corrections"]
    folder = tmp_path_factory.mktemp("watched")
    process, demo = _start(versions, folder, *options)
    try:
        yield demo
    finally:
        process.kill()
        process.communicate()


def _start(project: Registered, folder: Path, *options: str) -> tuple[subprocess.Popen[str], Demo]:
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCHMAN)
    temporary, watched = folder / "temporary", folder / "watched"
    temporary.mkdir()
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            (*OURS, "demo", *options),
            cwd=project.root,
            env=project.environment(
                PYTHONPATH=f"{folder / 'watch'}{os.pathsep}{ROOT / 'src'}",
                WATCHED=str(watched),
                TMPDIR=str(temporary),
            ),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout
    line = process.stdout.readline()
    assert " at http://127.0.0.1:" in line
    address = line.split(" at ")[1].split()[0]
    return process, Demo(process, address, temporary, watched)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
        yield browser
        browser.close()


@pytest.fixture
def page(running: Demo, browser: Browser) -> Iterator[Page]:
    """The page with the answer for the first drawn person.

    After each test, the console of the browser must have no errors, and nothing may have been
    requested from other machines.
    """
    messages: list[str] = []
    requested: list[str] = []

    def read(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            messages.append(message.text)

    page = browser.new_page(accept_downloads=True)
    page.set_default_timeout(1000 * COMMAND_SECONDS)
    page.on("console", read)
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(running.address)
    page.locator(".head").first.wait_for()
    yield page
    page.close()
    assert not messages
    own = (f"{running.address}/", "data:", "blob:")
    assert not [url for url in requested if not url.startswith(own)]
    assert set(running.watched.read_text().split()) == {"watching"}


def _open(page: Page, *paths: Path) -> None:
    """Chooses files, and waits for the answer or the grid."""
    page.locator("#files").set_input_files(list(paths))
    if len(paths) > 1:
        page.locator("#tables a").first.wait_for()
    else:
        page.locator("#answer-title").get_by_text(paths[0].name, exact=True).wait_for()


def _card(page: Page, head: str) -> Locator:
    return page.locator(f".head[data-head='{head}']")


def test_the_page_shows_the_answers_of_both_versions(
    versions: Registered, page: Page, people: Path
) -> None:
    assert page.locator("#answer-title").inner_text() == "drawn-1.jpg"
    assert page.locator("#examples img").count() == 6
    path = min(people.rglob("*.jpg"))

    _open(page, path)

    first, second = _ask_models(versions, path.read_bytes())
    shown = [card.get_attribute("data-head") for card in page.locator(".head").all()]
    assert shown == list(first)
    for head, answer in first.items():
        card, other = _card(page, head), second[head]
        assert card.locator(".label b").all_inner_texts() == [answer["label"], other["label"]]
        for row in card.locator("li").all():
            name = row.get_attribute("data-class") or ""
            expected = [given["probabilities"][name] for given in (answer, other)]
            shares = row.locator(".shares span").all()
            assert [float(share.get_attribute("data-probability") or "") for share in shares] == (
                pytest.approx(expected)
            )
            drawn = row.locator(".bar").evaluate_all(
                "bars => bars.map(bar => bar.clientWidth / bar.parentElement.clientWidth)"
            )
            assert drawn == pytest.approx(expected, abs=0.02)
        is_changed = answer["label"] != other["label"]
        assert card.locator(".badge").count() == is_changed
    changed = sum(answer["label"] != second[head]["label"] for head, answer in first.items())
    assert page.locator("#changes").inner_text() == f"{changed} of {HEADS} labels differ."


def test_a_head_shows_its_heat_map_for_each_version(page: Page, running: Demo) -> None:
    button = _card(page, "age").get_by_role("button", name="Heat map for age")
    button.and_(page.locator(":enabled")).click()

    heats = page.locator(".heat:visible")
    assert [heat.get_attribute("alt") for heat in heats.all()] == 2 * ["Heat map for age"]
    button.click()
    assert heats.count() == 0
    assert not list(running.temporary.rglob("*.jp*g"))


def test_a_broken_file_is_one_sentence(page: Page, people: Path, tmp_path: Path) -> None:
    whole = min(people.rglob("*.jpg")).read_bytes()
    half = tmp_path / "half.jpg"
    half.write_bytes(whole[: len(whole) // 2])
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(1_000_001))

    for path in (half, large):
        _open(page, path)
        refused = page.get_by_role("alert").and_(page.locator("#refused"))
        assert refused.inner_text().startswith("This file cannot be read: ")
        assert "\n" not in refused.inner_text()
        assert page.locator(".head").count() == 0


def test_many_photographs_are_a_grid_and_a_table_like_that_of_predict(
    versions: Registered, page: Page, people: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken, with a comma.jpg"
    broken.write_bytes(b"broken")
    paths = [*sorted(people.rglob("*.jpg"))[:9], broken]
    _open(page, *paths)

    texts = page.locator("#grid .tile-text").all_inner_texts()
    assert texts[-1] == "cannot be read"
    certainties = [float(text.rpartition(", ")[2].rstrip("%\xa0")) for text in texts[:-1]]
    assert certainties == sorted(certainties)
    assert page.locator("#count").inner_text().startswith("10 photographs, 1 unreadable.")

    with page.expect_download() as download:
        page.get_by_text("Save CSV A").click()
    for path in paths:
        (versions.root / "photos").mkdir(exist_ok=True)
        (versions.root / "photos" / path.name).write_bytes(path.read_bytes())
    command = ("predict", "photos", "labels.csv")
    run_in_process(versions.root, versions.environment(), command, code=0)
    saved, expected = _read(download.value.path()), _read(versions.root / "labels.csv")
    assert list(saved[0]) == list(expected[0])
    for row, other in zip(saved, expected, strict=True):
        assert f"photos/{row.pop('path')}" == other.pop("path")
        assert bool(row.pop("error")) == bool(other.pop("error"))
        assert row == other

    page.locator("#grid button").first.click()
    assert page.locator(".head").count() == HEADS
    assert page.evaluate("document.activeElement.id") == "answer-title"


def test_curl_asks_the_server_for_the_same_answer(
    versions: Registered, page: Page, people: Path, tmp_path: Path
) -> None:
    path = tmp_path / "it's one.jpg"
    path.write_bytes(min(people.rglob("*.jpg")).read_bytes())
    _open(page, path)
    page.get_by_text("Copy as curl").click()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_text("Copied.").wait_for()
    command = str(page.evaluate("navigator.clipboard.readText()"))

    with serve(versions.root, versions.environment(), CHAMPION, tmp_path / "log") as endpoint:
        done = subprocess.run(
            ["sh", "-c", command.replace("http://127.0.0.1:5001", endpoint.address)],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
    (answer,) = json.loads(done.stdout)["predictions"]
    for card in page.locator(".head").all():
        head = card.get_attribute("data-head") or ""
        assert card.locator(".label b").first.inner_text() == answer[head]["label"]
        share = card.locator(f"li[data-class='{answer[head]['label']}'] .shares span").first
        shown = float(share.get_attribute("data-probability") or "")
        assert shown == pytest.approx(answer[head]["probability"], abs=1e-5)


def test_corrections_are_rows_for_ingest_until_they_are_deleted(
    versions: Registered, page: Page, people: Path
) -> None:
    folder = versions.root / "corrections"
    paths = sorted(people.rglob("*.jpg"))[:2]
    params = read_params(versions.root / "params.yaml")
    data = params.data.model_copy(update={"annotations": "corrections.csv"})
    sad = _card(page, "emotion").get_by_role("button", name="Sad is the right emotion")
    side = _card(page, "pose").get_by_role("button", name="Side is the right pose")
    notice = page.locator("#notice")
    assert "0 photographs are kept" in notice.inner_text()

    for path in paths:
        _open(page, path)
        sad.click()
        page.get_by_text("Kept: emotion Sad.").wait_for()
    side.click()
    page.get_by_text("Kept: pose Side.").wait_for()

    done = ingest(FolderSource(folder), data, params.heads)
    assert done.quarantine.empty
    assert list(done.records["emotion"]) == ["Sad", "Sad"]
    assert list(done.records["pose"]) == ["", "Side"]
    assert set(done.records["gender"]) == {""}
    kept = [(folder / name).read_bytes() for name in done.records["image"]]
    assert kept == [path.read_bytes() for path in paths]

    _open(page, paths[0])
    assert sad.get_attribute("aria-pressed") == "true"
    sad.click()
    page.get_by_text("Removed: emotion.").wait_for()
    assert len(ingest(FolderSource(folder), data, params.heads).records) == 1

    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete all corrections").click()
    page.get_by_text("All corrections are deleted.").wait_for()
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_photographs_are_pasted_dropped_and_taken_with_the_camera(page: Page, people: Path) -> None:
    content = base64.b64encode(min(people.rglob("*.jpg")).read_bytes()).decode()
    send = """([content, kind, field]) => {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], `${kind}.jpg`, { type: "image/jpeg" }));
        const event = new Event(kind, { bubbles: true, cancelable: true });
        event[field] = transfer;
        document.body.dispatchEvent(event);
    }"""
    for kind, field in (("paste", "clipboardData"), ("drop", "dataTransfer")):
        page.evaluate(send, [content, kind, field])
        page.locator("#answer-title").get_by_text(f"{kind}.jpg").wait_for()
    page.get_by_role("button", name="Use camera").click()
    page.get_by_role("button", name="Take photograph").click()
    page.locator("#answer-title").get_by_text("camera.jpg").wait_for()
    assert page.locator("dialog:visible").count() == 0
    assert page.evaluate("video.srcObject.getTracks().every(track => track.readyState == 'ended')")


def test_the_page_is_usable_with_a_keyboard_and_a_screen_reader(page: Page) -> None:
    assert page.locator("img:not([alt])").count() == 0
    for kind in ("button", "combobox", "link"):
        for element in page.get_by_role(kind).all():
            assert element.aria_snapshot().partition('"')[2], element.inner_html()
    page.locator("#examples button").nth(1).focus()
    page.keyboard.press("Enter")
    page.locator("#answer-title").get_by_text("drawn-2.jpg").wait_for()
    assert "drawn-2.jpg: gender " in page.get_by_role("status").first.inner_text()
    page.locator("#files").focus()
    outline = "getComputedStyle(files.parentElement).outlineStyle"
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(outline) == "solid"


def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_pages_of_other_sites_are_refused(running: Demo, people: Path) -> None:
    content = min(people.rglob("*.jpg")).read_bytes()
    assert running.request("POST", "/answers", content)[0] == 200
    for host in ("example.org", "127.0.0.1.example.org", "localhost.example.org:80"):
        for path in ("/", "/settings", "/examples/0.jpg"):
            assert running.request("GET", path, Host=host)[0] == 400
        assert running.request("POST", "/answers", content, Host=host)[0] == 400
    # A browser sends these types to other sites without asking them.
    for sent in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        assert running.request("POST", "/answers", content, Content_Type=sent)[0] == 415
    assert running.request("OPTIONS", "/corrections", Origin="http://example.org")[0] == 405


def test_bad_requests_are_refused(running: Demo, people: Path) -> None:
    content = min(people.rglob("*.jpg")).read_bytes()
    assert running.request("POST", "/answers", bytes(1_000_001))[0] == 413
    assert running.request("POST", "/heatmaps/2", content)[0] == 404
    assert running.request("GET", "/examples/6.jpg")[0] == 404
    assert running.request("GET", "/../server.py")[0] == 404
    assert running.request("POST", "/corrections?head=emotion&class=Bored", content)[0] == 422
    assert running.request("POST", "/corrections?head=mood&class=Sad", content)[0] == 422
    status, text = running.request("POST", "/corrections?head=emotion&class=Sad", b"broken")
    assert status == 422
    assert text == "Not kept: not a JPEG, PNG, WebP or BMP image, but text."


def test_an_error_is_one_line_in_the_terminal(
    versions: Registered, running: Demo, people: Path
) -> None:
    table = versions.root / "corrections" / "corrections.csv"
    table.write_text("damaged while the demo runs\n")
    try:
        status, text = running.request("POST", "/answers", min(people.rglob("*.jpg")).read_bytes())
    finally:
        table.unlink()
    assert status == 500
    assert text == "The demo has failed. Its terminal shows the error."
    (line,) = (running.temporary.parent / "errors").read_text().splitlines()
    assert line.startswith(
        "demo: /answers: AnnotationsError: corrections/corrections.csv: expected"
    )


def test_by_default_nothing_is_kept_waiting_is_free_and_sigterm_ends_the_command(
    versions: Registered, people: Path, tmp_path: Path
) -> None:
    process, demo = _start(versions, tmp_path)
    try:
        assert demo.request("GET", "/settings")[1]["models"] == [CHAMPION]
        content = min(people.rglob("*.jpg")).read_bytes()
        status, text = demo.request("POST", "/corrections?head=emotion&class=Sad", content)
        assert status == 403
        assert "--corrections" in text
        assert _measure_idle(process.pid) < 0.1
        # A request that takes seconds, because it imports Keras.
        connection = http.client.HTTPConnection(demo.address.removeprefix("http://"))
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/octet-stream"}
            connection.request("POST", "/heatmaps/0", content, headers)
            time.sleep(0.5)
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(COMMAND_SECONDS) == 0
        assert not (tmp_path / "errors").read_text()
        # Not even the file of ONNX Runtime's telemetry.
        assert not list(demo.temporary.iterdir())
    finally:
        process.kill()
        process.communicate()


def _measure_idle(pid: int, seconds: int = 4) -> float:
    """Returns the processor time that a process uses while nobody asks."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system)


@pytest.mark.parametrize("model", ["models:/person-attributes@nobody", "models:/other/1"])
def test_a_missing_model_is_one_line(registered: Registered, model: str) -> None:
    assert _refuse(registered, "--model", model).startswith(f"{model}: cannot be loaded: ")


def test_wrong_options_are_one_line(versions: Registered) -> None:
    models = [argument for _ in range(3) for argument in ("--model", CHAMPION)]
    assert _refuse(versions, *models).startswith("--model: expected at most two. Received: 3.")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        assert _refuse(versions, "--port", number).startswith(f"demo: port {number}: cannot be")
    assert _refuse(versions, "--port", "70000").startswith("demo: port 70000: cannot be opened: ")
    other = versions.root / "other"
    other.mkdir()
    for content in (b"image,label\n1.jpg,a\n", b"", b"\xff\xfe\x00"):
        (other / "corrections.csv").write_bytes(content)
        error = _refuse(versions, "--corrections", "other")
        assert error.startswith("other/corrections.csv: expected a table of the demo with the col")


def _refuse(project: Registered, *options: str) -> str:
    """Returns the output of the command, which prints one line and ends with exit code 2."""
    done = run_in_process(project.root, project.environment(), ("demo", *options), code=2)
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _ask_models(project: Registered, content: bytes) -> list[dict[str, Any]]:
    """Asks both versions in another process: loading a model prepends its code to the path."""
    code = (
        "import base64, json, sys, mlflow, pandas\n"
        f"mlflow.set_tracking_uri('sqlite:///{project.root / 'mlflow.db'}')\n"
        "table = pandas.DataFrame({'image': [sys.stdin.read()]})\n"
        f"for uri in {[CHAMPION, PRETRAINED]}:\n"
        "    row = mlflow.pyfunc.load_model(uri).predict(\n"
        "        table, params={'all_probabilities': True, 'on_error': 'answer'}).iloc[0]\n"
        "    heads = [head for head in row.index if isinstance(row[head], dict)]\n"
        "    print(json.dumps({head: row[head] for head in heads}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=base64.b64encode(content).decode(),
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()[-2:]]
