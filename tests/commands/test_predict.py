"""Labelling many images from folders, patterns, CSV files and zips; interrupted and resumed."""

import csv
import os
import shutil
import signal
import subprocess
import time
import zipfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from conftest import OURS, run_in_process
from tiny_model import Registered

from person_attributes.commands.predict.output import PartialOutput, lock_output

_OPTION_COLUMNS = {
    "path",
    *("bag", "bag_probability", "gender", "gender_probability"),
    *("gender_top_2", "gender_top_2_probability"),
    *("bag_top_2", "bag_top_2_probability", "bag_top_3", "bag_top_3_probability"),
    *("gender_probability_female", "gender_probability_male"),
    "bag_probability_Daily/Office/Work Bag",
    "bag_probability_Grocery/Home/Plastic Bag",
    "bag_probability_None",
    "error",
}


@pytest.fixture(scope="module")
def registered(
    registered: Registered, tmp_path_factory: pytest.TempPathFactory, people: Path
) -> Registered:
    """A registered model beside photographs; the tests of this file write their output here."""
    registered = registered.copy(tmp_path_factory.mktemp("scored") / "workspace")
    photos = registered.root / "photos"
    shutil.copytree(people, photos)
    (photos / "broken.png").write_bytes(b"broken")
    return registered


def _predict(registered: Registered, *arguments: str, code: int = 0) -> str:
    done = run_in_process(registered.root, registered.environment(), ("predict", *arguments), code)
    return done.stdout + done.stderr


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(registered: Registered) -> list[dict[str, str]]:
    output = _predict(registered, "photos", "whole.csv")
    assert "25 images, 1 unreadable, see whole.csv" in output
    return _read(registered.root / "whole.csv")


def test_every_image_has_a_row_and_the_broken_one_a_reason(whole: list[dict[str, str]]) -> None:
    assert len(whole) == 25
    (broken,) = [row for row in whole if row["error"]]
    assert broken["path"] == "photos/broken.png"
    assert broken["error"].startswith("not a JPEG, PNG, WebP or BMP image")
    assert broken["gender"] == broken["gender_probability"] == ""
    valid = [row for row in whole if not row["error"]]
    assert {row["gender"] for row in valid} <= {"female", "male"}
    assert all(0.5 <= float(row["gender_probability"]) <= 1 for row in valid)


def test_options_add_the_columns_of_the_answers_of_the_server(
    registered: Registered, whole: list[dict[str, str]]
) -> None:
    options = ("--heads", "bag,gender", "--top-k", "3", "--probabilities")
    output = _predict(registered, "photos", "options.csv", *options)
    assert "images a second" in output
    rows = _read(registered.root / "options.csv")
    counts = Counter(row["gender"] for row in rows if row["gender"])
    summary = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    assert f"predict: gender: {summary}\n" in output
    for row, expected in zip(rows, whole, strict=True):
        assert set(row) == _OPTION_COLUMNS
        assert {name: row[name] for name in expected if name in row} == {
            name: value for name, value in expected.items() if name in row
        }
        if not row["error"]:
            probabilities = [
                float(row[f"gender_probability_{name}"]) for name in ("female", "male")
            ]
            assert sorted(probabilities) == [
                float(row["gender_top_2_probability"]),
                float(row["gender_probability"]),
            ]
    _predict(registered, "photos", "options.parquet", *options)
    table = pd.read_parquet(registered.root / "options.parquet")
    assert set(table.columns) == _OPTION_COLUMNS
    assert pd.api.types.is_float_dtype(table["bag_probability_None"])


def test_parquet_has_the_content_of_csv(
    registered: Registered, whole: list[dict[str, str]]
) -> None:
    _predict(registered, "photos", "whole.parquet")
    table = pd.read_parquet(registered.root / "whole.parquet")
    assert list(table.columns) == list(whole[0])
    for (_, row), expected in zip(table.iterrows(), whole, strict=True):
        for name, value in expected.items():
            if not value:
                assert pd.isna(row[name])
            elif name.endswith("_probability"):
                assert row[name] == float(value)
            else:
                assert row[name] == value
    assert not list(registered.root.glob("whole.parquet.*"))


def test_a_pattern_a_zip_and_a_csv_of_paths_give_the_same_rows(
    registered: Registered, whole: list[dict[str, str]]
) -> None:
    root = registered.root
    with zipfile.ZipFile(root / "photos.zip", "w") as archive:
        for row in whole:
            archive.write(root / row["path"], row["path"])
    pd.DataFrame({"file": [row["path"] for row in whole]}).to_csv(root / "list.csv", index=False)

    _predict(registered, "photos/**/*", "pattern.csv")
    _predict(registered, "photos.zip", "zip.csv")
    _predict(registered, "list.csv", "list-out.csv", "--column", "file")

    assert _read(root / "pattern.csv") == _read(root / "list-out.csv") == whole
    shorter = [{**row, "path": row["path"].removeprefix("photos/")} for row in whole]
    assert _read(root / "zip.csv") == shorter


def test_a_list_may_name_images_in_another_form(
    registered: Registered, whole: list[dict[str, str]]
) -> None:
    rows = [row for row in whole if not row["error"]][:3]
    listed = [row["path"].replace("/", "\\") for row in rows]
    lines = "".join(f"{name}\t{number}\n" for number, name in enumerate(listed))
    (registered.root / "windows.tsv").write_text(f"file\tnumber\n{lines}", encoding="utf-16")
    output = _predict(registered, "windows.tsv", "windows-out.csv", "--column", "file")
    assert "3 listed names differ from those of the files, first 'photos" in output
    renamed = [row | {"path": name} for row, name in zip(rows, listed, strict=True)]
    assert _read(registered.root / "windows-out.csv") == renamed


def test_a_missing_file_is_a_row_with_a_reason(registered: Registered) -> None:
    (registered.root / "gone.csv").write_text("image,number\nnowhere.jpg,1\n,2\n")
    output = _predict(registered, "gone.csv", "gone-out.csv")
    assert output.endswith("2 images, 2 unreadable, see gone-out.csv\n")  # and no labels
    missing, unnamed = _read(registered.root / "gone-out.csv")
    assert missing["error"] == "cannot be read: No such file or directory"
    assert unnamed["error"] == "no image named: the cell is empty"


@pytest.mark.parametrize("output", ["named.csv", "named.parquet"])
def test_what_a_table_cannot_contain_is_replaced_in_a_path(
    registered: Registered, output: str
) -> None:
    folder = registered.root / "named"
    folder.mkdir(exist_ok=True)
    image = (registered.root / "photos" / "resized" / "1.jpg").read_bytes()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9\r.jpg")).write_bytes(image)
    assert f"1 images, 0 unreadable, see {output}" in _predict(registered, "named", output)
    path = registered.root / output
    table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    assert list(table["path"]) == [
        "named/caf\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.jpg"
    ]


def test_rows_of_another_archive_are_not_reused(registered: Registered) -> None:
    root = registered.root
    photos = [root / "photos" / "resized" / f"{number}.jpg" for number in (1, 2)]
    for day, photo in zip(("monday", "tuesday"), photos, strict=True):
        with zipfile.ZipFile(root / f"{day}.zip", "w") as archive:
            archive.write(photo, "one.jpg")
            archive.writestr("two.jpg", photo.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartialOutput, "finish", _interrupt)  # after all rows are scored
        with pytest.raises(KeyboardInterrupt):
            _predict(registered, "monday.zip", "day.csv")
    assert (root / "day.csv.part").exists()
    output = _predict(registered, "tuesday.zip", "day.csv")
    assert "resuming" not in output
    _predict(registered, "tuesday.zip", "tuesday.csv")
    assert _read(root / "day.csv") == _read(root / "tuesday.csv")


def _interrupt(_: PartialOutput) -> None:
    raise KeyboardInterrupt


def test_a_killed_run_is_resumed(registered: Registered, whole: list[dict[str, str]]) -> None:
    root = registered.root
    files = [row["path"] for row in whole if not row["error"]]
    many = [files[number % len(files)] for number in range(3000)]
    pd.DataFrame({"image": many}).to_csv(root / "many.csv", index=False)
    process = subprocess.Popen(
        (*OURS, "predict", "many.csv", "many-out.csv"),
        cwd=root,
        env=registered.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    part = root / "many-out.csv.part"
    while not (part.exists() and part.stat().st_size > 20_000):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (root / "many-out.csv").exists()
    with part.open("a") as file:
        file.write("half a row,fem")

    output = _predict(registered, "many.csv", "many-out.csv")

    assert "predict: resuming after " in output
    answers = {row["path"]: row for row in whole}
    assert _read(root / "many-out.csv") == [answers[path] for path in many]
    assert not part.exists()


def test_an_output_that_another_process_writes_is_refused(registered: Registered) -> None:
    output = registered.root / "busy.csv"
    with lock_output(output):
        printed = _predict(registered, "photos", output.name, code=2)
    assert "busy.csv: another process writes this file." in printed
    assert not list(registered.root.glob("busy.csv*"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere", "out.csv"], "nowhere: expected an image, a folder, a pattern"),
        (["photos", "out.txt"], "out.txt: expected a name that ends in .csv or .parquet"),
        (["photos", "folder.parquet"], "folder.parquet: expected a file. Received: a folder."),
        (["whole.csv", "../workspace/whole.csv"], "whole.csv: is also the table of paths. Rename"),
        (["whole.csv", "out.csv"], "whole.csv:1: no column 'image'."),
        (["photos", "out.csv", "--model", "models:/other/1"], "models:/other/1: cannot be loaded"),
        (["photos", "out.csv", "--model", "http://127.0.0.1:9/x"], "127.0.0.1:9/x: cannot be loa"),
        (
            ["photos", "out.csv", "--model", "a@champion"],
            "No such artifact: 'a@champion'. Expected",
        ),
        (["photos", "out.csv", "--heads", "pos"], "Received: 'pos'. Did you mean 'pose'? Correct"),
        (
            ["photos", "out.csv", "--top-k", "-1"],
            "predict: --top-k: expected 0 or more. Received: -1.",
        ),
        (["photos", "no/such/out.csv"], "no/such: no such folder. Create it, or name another"),
    ],
)
def test_bad_arguments_are_one_line(
    registered: Registered, whole: list[dict[str, str]], arguments: list[str], reason: str
) -> None:
    (registered.root / "folder.parquet").mkdir(exist_ok=True)
    output = _predict(registered, *arguments, code=2)
    assert reason in output
    assert len(output.strip().splitlines()) == 1
