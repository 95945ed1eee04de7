import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from person_attributes.config import DataParams, HeadParams, Params
from person_attributes.data.annotations import (
    Ingested,
    ingest_annotations,
    read_records,
    write_records,
)
from person_attributes.data.archive import open_source
from person_attributes.errors import AnnotationsError, SourceError


class Data:
    """An editable copy of the drawn people."""

    def __init__(self, folder: Path, params: Params) -> None:
        self.folder = folder
        self.heads: Mapping[str, HeadParams] = params.heads
        self.params: DataParams = params.data
        self.csv = folder / params.data.annotations
        self.table = pd.read_csv(self.csv, dtype=str, keep_default_na=False)

    def accept(self, share: float) -> "Data":
        self.params = self.params.model_copy(update={"max_quarantined_share": share})
        return self

    def ingest(self) -> Ingested:
        self.table.to_csv(self.csv, index=False)
        return ingest_annotations(open_source(self.folder), self.params, self.heads)


@pytest.fixture
def data(people: Path, params: Params, tmp_path: Path) -> Data:
    import shutil

    shutil.copytree(people, tmp_path / "data")
    return Data(tmp_path / "data", params)


def test_good_rows_become_records_and_none_is_a_class(data: Data) -> None:
    ingested = data.ingest()
    assert len(ingested.records) == 24
    assert ingested.quarantine.empty
    assert list(ingested.records.columns) == ["image", *data.heads]
    assert (ingested.records["bag"] == "None").any()


def test_records_survive_writing_and_reading(data: Data, tmp_path: Path) -> None:
    records = data.ingest().records.drop(index=[0, 5])
    write_records(records, tmp_path / "records.csv")
    pd.testing.assert_frame_equal(read_records(tmp_path / "records.csv"), records)


def test_a_zip_is_read_like_its_folder(data: Data, tmp_path: Path) -> None:
    for top in ("", "some folder/"):
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for path in data.folder.rglob("*"):
                archive.write(path, f"{top}{path.relative_to(data.folder)}")
        zipped = ingest_annotations(open_source(tmp_path / "data.zip"), data.params, data.heads)
        pd.testing.assert_frame_equal(zipped.records, data.ingest().records)


def test_bad_images_are_quarantined_with_a_reason(data: Data) -> None:
    (data.folder / "resized/1.jpg").unlink()
    whole = (data.folder / "resized/2.jpg").read_bytes()
    (data.folder / "resized/2.jpg").write_bytes(whole[: len(whole) // 2])
    (data.folder / "resized/3.jpg").write_bytes(b"not an image")
    data.table.loc[4, "image_path"] = "resized/4.jpg"
    ingested = data.accept(0.2).ingest()
    assert ingested.quarantine["line"].tolist() == [2, 3, 4, 6]
    for reason, expected in zip(
        ingested.quarantine["reason"],
        ("no such image", "truncated", "not an image", "the same image as line 5"),
        strict=True,
    ):
        assert expected in reason
    assert ingested.records.index.tolist() == [3, *range(5, 24)]


def test_too_many_bad_images_stop_the_stage(data: Data) -> None:
    (data.folder / "resized/1.jpg").unlink()
    with pytest.raises(AnnotationsError, match=r"hvc_annotations\.csv:2: resized/1\.jpg: no such"):
        data.accept(0.04).ingest()
    assert len(data.accept(0.05).ingest().records) == 23


def test_nothing_outside_the_source_is_read(data: Data, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes((data.folder / "resized/1.jpg").read_bytes())
    data.table.loc[0, "image_path"] = "../secret.jpg"
    data.table.loc[1, "image_path"] = str(tmp_path / "secret.jpg")
    assert data.accept(0.2).ingest().quarantine["reason"].tolist() == ["no such image"] * 2


def test_an_unknown_class_is_named_with_its_line_and_the_nearest_one(data: Data) -> None:
    data.table.loc[[6, 9], "age"] = "18-25"
    with pytest.raises(AnnotationsError) as raised:
        data.ingest()
    assert str(raised.value) == (
        "hvc_annotations.csv:8: unknown age '18-25' (2 rows). Did you mean '15-25'? Expected one "
        "of 15-25, 25-35, 35-45, 45-55, 55+. Fix the rows or add the class to params.yaml."
    )


def test_a_missing_column_is_named_with_the_nearest_one(data: Data) -> None:
    data.table = data.table.rename(columns={"bodypose": "body_pose"})
    with pytest.raises(AnnotationsError, match=r":1: no column 'bodypose'.* 'body_pose'"):
        data.ingest()


def test_a_missing_or_empty_annotations_file_is_one_line(data: Data) -> None:
    data.table = data.table.head(0)
    with pytest.raises(AnnotationsError, match="no rows below the header"):
        data.ingest()
    data.csv.unlink()
    with pytest.raises(AnnotationsError, match=r"no file 'hvc_annotations\.csv'"):
        ingest_annotations(open_source(data.folder), data.params, data.heads)


def test_a_wrong_source_says_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"expected a folder or a \.zip file\. Received: nothing"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "broken.zip").write_bytes(io.BytesIO(b"PK no").getvalue())
    with pytest.raises(SourceError, match="not a readable zip archive"):
        open_source(tmp_path / "broken.zip")
