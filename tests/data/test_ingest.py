"""Validation of sources with typical faults."""

import io
import os
import shutil
import signal
import time
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from person_attributes.config import DataParams, HeadParams, Params
from person_attributes.data import decoding
from person_attributes.data.appearance import describe_image
from person_attributes.data.ingest import (
    Ingested,
    allocate_on_disk,
    check_quarantine,
    describe_absent_classes,
    describe_quarantine,
    ingest,
)
from person_attributes.data.source import open_source
from person_attributes.errors import AnnotationsError, ImageError, SourceError


class Data:
    """An editable copy of the drawn people."""

    def __init__(self, folder: Path, params: Params) -> None:
        self.folder = folder
        self.heads: Mapping[str, HeadParams] = params.heads
        self.params: DataParams = params.data
        self.csv = folder / params.data.annotations
        self.table = pd.read_csv(self.csv, dtype=str, keep_default_na=False)

    def image(self, number: int) -> Path:
        return self.folder / f"resized/{number}.jpg"

    def ingest(self) -> Ingested:
        self.table.to_csv(self.csv, index=False)
        return ingest(open_source(self.folder, self.params.limits), self.params, self.heads)


@pytest.fixture
def data(people: Path, params: Params, tmp_path: Path) -> Data:
    shutil.copytree(people, tmp_path / "data")
    return Data(tmp_path / "data", params)


def _kinds(ingested: Ingested) -> list[tuple[int, str]]:
    quarantine = ingested.quarantine
    return list(zip(quarantine["line"].tolist(), quarantine["kind"].tolist(), strict=True))


def test_good_rows_become_records_with_measurements(data: Data) -> None:
    ingested = data.ingest()
    assert ingested.quarantine.empty
    assert list(ingested.records.columns) == ["image", *data.heads]
    assert ingested.appearances.index.tolist() == ingested.records.index.tolist() == list(range(24))
    assert ingested.thumbnails.shape == (24, 64, 64)
    assert ingested.appearances["brightness"].between(0, 1).all()
    by_quality = ingested.appearances["sharpness"].groupby(ingested.records["image_quality"])
    assert by_quality.median()["Good"] > by_quality.median()["Average"]


def test_thumbnails_on_disk_are_aligned_with_the_records(data: Data) -> None:
    data.table.loc[0, "gender"] = "unknown"
    data.table.loc[2, "image_path"] = "resized/1.jpg"  # a good row with the same image
    data.table.to_csv(data.csv, index=False)
    source = open_source(data.folder, data.params.limits)
    ingested = ingest(source, data.params, data.heads, allocate_on_disk)
    assert isinstance(ingested.thumbnails.base, np.memmap)
    assert ingested.records.index.tolist() == list(range(1, 24))
    for thumbnail, name in zip(ingested.thumbnails, ingested.records["image"], strict=True):
        appearance = describe_image(b"", Image.open(data.folder / name).convert("RGB"))
        np.testing.assert_array_equal(thumbnail, appearance.thumbnail)


def test_a_zip_gives_the_same_records_as_its_folder(data: Data, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in data.folder.rglob("*"):
            archive.write(path, f"top/{path.relative_to(data.folder)}")
    source = open_source(tmp_path / "data.zip", data.params.limits)
    zipped, unzipped = ingest(source, data.params, data.heads), data.ingest()
    pd.testing.assert_frame_equal(zipped.records, unzipped.records)
    pd.testing.assert_frame_equal(zipped.appearances, unzipped.appearances)


def test_rows_with_bad_images_or_labels_are_quarantined(data: Data, tmp_path: Path) -> None:
    data.image(1).unlink()
    data.image(2).write_bytes(data.image(2).read_bytes()[:900])
    data.image(3).write_bytes(b"not an image")
    data.image(4).write_bytes(b"")
    Image.new("RGB", (9000, 8000)).save(data.image(5))
    data.table.loc[5, "age"] = "18-25"
    data.table.loc[6, "image_path"] = "../data/resized/7.jpg"
    data.table.loc[7, "image_path"] = "/etc/passwd"
    ingested = data.ingest()
    assert _kinds(ingested) == [
        (2, "missing image"),
        (3, "bad image"),
        (4, "bad image"),
        (5, "bad image"),
        (6, "bad image"),
        (7, "unknown class"),
        (9, "missing image"),
    ]
    # Row 6 is good: its path contains `..` but stays inside the folder.
    assert ingested.records.index.tolist() == [6, *range(8, 24)]
    reasons = " ".join(ingested.quarantine["reason"])
    for reason in ("truncated", "not a JPEG", "an empty file", "9000 x 8000 pixels, more than 64"):
        assert reason in reasons


def test_an_image_with_another_name_is_recorded_under_the_name_of_its_file(data: Data) -> None:
    data.image(1).rename(data.folder / "resized/1.JPG")
    data.table.loc[1, "image_path"] = r"resized\2.jpg"
    data.table.loc[2, "image_path"] = "3"
    data.image(4).unlink()
    data.table.loc[4, "age"] = "18"
    ingested = data.ingest()
    expected = {
        "resized/1.jpg": "resized/1.JPG",
        r"resized\2.jpg": "resized/2.jpg",
        "3": "resized/3.jpg",
    }
    assert ingested.renamed == expected
    assert ingested.records["image"].tolist()[:3] == list(expected.values())
    assert _kinds(ingested) == [(5, "missing image"), (6, "unknown class")]
    assert ingested.quarantine["reason"][0].startswith(
        f"{data.params.source} contains no image 'resized/4.jpg'. The nearest one is 'resized/"
    )


def test_a_row_with_several_faults_is_listed_once(data: Data) -> None:
    data.image(1).write_bytes(b"no")
    data.table.loc[0, ["age", "gender"]] = ["18", "none"]
    (fault,) = data.ingest().quarantine.itertuples()
    assert (fault.row, fault.line, fault.image) == (0, 2, "resized/1.jpg")
    for part in ("unknown gender 'none'", "; unknown age '18'", "; not a JPEG"):
        assert part in str(fault.reason)


def test_copies_are_found_by_content_and_not_by_name(data: Data) -> None:
    labels = [section.column for section in data.heads.values()]
    shutil.copy(data.image(1), data.image(2))
    data.table.loc[1, labels] = data.table.loc[0, labels]
    shutil.copy(data.image(3), data.image(4))
    data.table.loc[[2, 3], "gender"] = ["male", "female"]
    ingested = data.ingest()
    assert _kinds(ingested) == [
        (3, "repeated image"),
        (4, "conflicting labels"),
        (5, "conflicting labels"),
    ]
    repeated, conflicting, _ = ingested.quarantine["reason"]
    assert repeated == "the same image as line 2"
    assert conflicting.startswith("the same image as line 5; copies differ in gender")


def test_the_first_copy_is_kept_unless_labels_differ(data: Data) -> None:
    data.table.loc[1] = data.table.loc[0]
    data.table.loc[3] = data.table.loc[2]
    data.table.loc[3, "gender"] = ""
    data.table.loc[5] = data.table.loc[4]
    data.table.loc[5, "age"] = "55+" if data.table.loc[4, "age"] != "55+" else "15-25"
    ingested = data.ingest()
    assert _kinds(ingested) == [
        (3, "repeated image"),
        (5, "repeated image"),
        (6, "conflicting labels"),
        (7, "conflicting labels"),
    ]
    reasons = ingested.quarantine["reason"].tolist()
    assert reasons[0] == "the same image as line 2"
    assert reasons[2:] == [
        "the same image as line 7; copies differ in age",
        "the same image as line 6; copies differ in age",
    ]


def test_the_first_copy_gets_the_labels_that_another_copy_has(data: Data) -> None:
    expected = list(data.table.loc[0, ["gender", "age"]])
    data.table.loc[1] = data.table.loc[0]
    data.table.loc[0, "gender"] = ""
    data.table.loc[1, "age"] = ""
    ingested = data.ingest()
    assert _kinds(ingested) == [(3, "repeated image")]
    assert list(ingested.records.loc[0, ["gender", "age"]]) == expected


def test_a_copy_of_a_row_with_a_fault_is_kept(data: Data) -> None:
    data.table.loc[1] = data.table.loc[0]
    data.table.loc[0, "age"] = "18"
    ingested = data.ingest()
    assert _kinds(ingested) == [(2, "unknown class")]
    assert ingested.records.loc[1, "image"] == "resized/1.jpg"


def test_files_that_exceed_the_limit_are_not_read(data: Data) -> None:
    limits = data.params.limits.model_copy(update={"image_megabytes": 0.0001})
    data.params = data.params.model_copy(update={"limits": limits})
    reasons = set(data.ingest().quarantine["reason"].str.partition(" MB, ")[2])
    assert reasons == {"more than 0.0001"}


def test_a_broken_member_of_a_zip_is_quarantined(data: Data, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in data.folder.rglob("*"):
            archive.write(path, path.relative_to(data.folder))
    content = bytearray(buffer.getvalue())
    place = content.index(data.image(7).read_bytes()) + 500
    content[place : place + 8] = bytes(8)
    (tmp_path / "data.zip").write_bytes(content)
    source = open_source(tmp_path / "data.zip", data.params.limits)
    (fault,) = ingest(source, data.params, data.heads).quarantine.itertuples()
    assert (fault.line, fault.kind) == (8, "bad image")
    assert "cannot be decompressed: Bad CRC-32" in str(fault.reason)


def test_too_many_bad_rows_are_refused_with_a_summary(data: Data) -> None:
    data.image(1).unlink()
    data.image(2).write_bytes(b"no")
    data.table.loc[[6, 9], "age"] = "18-25"
    ingested = data.ingest()
    share = {"max_quarantined_share": 0.16}
    with pytest.raises(AnnotationsError) as raised:
        check_quarantine(ingested, data.params.model_copy(update=share), "data/rejected.csv")
    first, *kinds = str(raised.value).splitlines()
    assert first == (
        "hvc_annotations.csv: 4 of 24 rows are bad, a share of 0.1667. Expected at most 0.16. Fix "
        "the rows in data/rejected.csv, or raise data.max_quarantined_share in params.yaml to "
        "continue without them."
    )
    assert kinds[0] == (
        "  2 x unknown class, first line 8: unknown age '18-25'. Did you mean '15-25'? Expected "
        "one of 15-25, 25-35, 35-45, 45-55, 55+"
    )
    assert len(kinds) - 1 == len(describe_quarantine(ingested.quarantine)) == 3
    assert kinds[-1].startswith("  In the head's section of params.yaml, list other spellings in ")
    share = {"max_quarantined_share": 0.17}
    check_quarantine(ingested, data.params.model_copy(update=share), "data/rejected.csv")


def test_classes_without_a_record_are_named() -> None:
    shares = {"colour": {"red": 1.0, "blue": 0.0, "green": 0.0}, "size": {"big": 0.5, "small": 0.5}}
    assert describe_absent_classes(shares) == [
        "no record is of the class 'blue' or 'green' of heads.colour"
    ]


def test_data_without_a_good_row_is_always_refused(data: Data) -> None:
    shutil.rmtree(data.folder / "resized")
    ingested = data.ingest()
    accepting = data.params.model_copy(update={"max_quarantined_share": 1.0})
    with pytest.raises(AnnotationsError, match="all 24 rows are bad"):
        check_quarantine(ingested, accepting, "rejected.csv")


def test_the_source_is_not_changed(data: Data) -> None:
    data.table.to_csv(data.csv, index=False)

    def state() -> dict[Path, tuple[bytes, int]]:
        files = (path for path in data.folder.rglob("*") if path.is_file())
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = state()
    ingest(open_source(data.folder, data.params.limits), data.params, data.heads)
    assert state() == before


def _measure(content: bytes, image: Image.Image) -> tuple[int, float]:
    return len(content), float(np.asarray(image).mean())


def _leave_mark(folder: Path, content: bytes, image: Image.Image) -> None:
    (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()


def _kill(content: bytes, image: Image.Image) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_several_processes_give_the_same_results_in_order(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.image(5).write_bytes(b"no")
    names = [f"resized/{number}.jpg" for number in range(1, 25)]
    limits = data.params.limits
    source = open_source(data.folder, limits)
    alone = list(decoding.map_images(_measure, source, names, limits, "one"))
    monkeypatch.setattr(decoding, "_IMAGES_PER_PROCESS", 12)
    monkeypatch.setattr(decoding, "_IMAGES_PER_TASK", 5)
    together = list(decoding.map_images(_measure, source, names, limits, "two"))
    assert isinstance(alone.pop(4), ImageError)
    assert isinstance(together.pop(4), ImageError)
    assert together == alone


def test_a_killed_process_is_reported(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_IMAGES_PER_PROCESS", 12)
    limits = data.params.limits
    names = [f"resized/{number}.jpg" for number in range(1, 25)]
    with pytest.raises(SourceError, match=r"was killed.* Lower data\.limits"):
        list(decoding.map_images(_kill, open_source(data.folder, limits), names, limits, "killed"))


def test_a_slow_consumer_limits_decoding(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_IMAGES_PER_PROCESS", 400)
    marks = tmp_path / "marks"
    marks.mkdir()
    names = [f"resized/{number}.jpg" for number in range(1, 25)] * 50
    limits = data.params.limits
    source = open_source(data.folder, limits)
    results = decoding.map_images(partial(_leave_mark, marks), source, names, limits, "slow")
    next(results)
    decoded, before = 1, 0
    while decoded > before:
        time.sleep(1)
        decoded, before = len(list(marks.iterdir())), decoded
    assert decoded < len(names)
    assert len(list(results)) == len(names) - 1
