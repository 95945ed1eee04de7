"""Reading and validation of annotation files."""

import tracemalloc
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from person_attributes.config import DataParams, HeadParams, Params
from person_attributes.data.annotations import Annotations, read_annotations
from person_attributes.data.records import read_records, write_records
from person_attributes.data.source import open_source
from person_attributes.errors import AnnotationsError, ParamsError

HEADS = {
    "bag": HeadParams(column="carryingbag", classes=("Plastic/Paper", "None")),
    "age": HeadParams(column="age", classes=("15-25", "25-35")),
}
TEXT = """note,path,carryingbag,age
first,1.jpg,None,15-25
second,2.jpg,Plastic/Paper,25-35
"""


@pytest.fixture
def data(params: Params) -> DataParams:
    return params.data.model_copy(
        update={"annotations": "a.csv", "image_column": "path", "keep_columns": ("note",)}
    )


def _read(
    content: str | bytes,
    data: DataParams,
    folder: Path,
    heads: Mapping[str, HeadParams] = HEADS,
) -> Annotations:
    raw = content.encode() if isinstance(content, str) else content
    (folder / "a.csv").write_bytes(raw)
    return read_annotations(open_source(folder, data.limits), data, heads)


def _list_faults(annotations: Annotations) -> list[tuple[int, str, str]]:
    faults = annotations.faults.sort_values(["line", "kind"])
    return list(faults[["line", "kind", "reason"]].itertuples(index=False, name=None))


def test_none_is_a_class_and_other_columns_are_dropped(data: DataParams, tmp_path: Path) -> None:
    annotations = _read(TEXT, data, tmp_path)
    assert list(annotations.table.columns) == ["line", "image", "note", "bag", "age"]
    assert annotations.table["bag"].tolist() == ["None", "Plastic/Paper"]
    assert annotations.table["line"].tolist() == [2, 3]
    assert annotations.faults.empty


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace(",", "|").encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace(",", " , ").encode(),
        ("\n" + TEXT.replace("second", "\n\nsecond") + "\n\n").encode(),
        TEXT.replace("first", '"first"').encode(),
    ],
    ids=[
        "bom",
        "utf16",
        "utf16be",
        ";",
        "tab",
        "|",
        "windows",
        "mac",
        "blanks",
        "blank lines",
        "quotes",
    ],
)
def test_encodings_delimiters_and_line_endings_are_detected(
    content: bytes, data: DataParams, tmp_path: Path
) -> None:
    expected = _read(TEXT, data, tmp_path).table.drop(columns="line")
    annotations = _read(content, data, tmp_path)
    assert annotations.faults.empty
    pd.testing.assert_frame_equal(annotations.table.drop(columns="line"), expected)


def test_line_numbers_include_quoted_line_breaks(data: DataParams, tmp_path: Path) -> None:
    text = TEXT.replace("first", '"first\nand\nmore"') + "three,3.jpg,Nothing,15-25\n"
    annotations = _read(text, data, tmp_path)
    assert annotations.table["note"].iloc[0] == "first\nand\nmore"
    assert annotations.table["line"].tolist() == [2, 5, 6]
    assert _list_faults(annotations)[0][:2] == (6, "unknown class")


def test_all_faults_are_reported_with_their_lines(data: DataParams, tmp_path: Path) -> None:
    text = TEXT + (
        "three,3.jpg,none,15-24\n"  # 4: two unknown classes
        "four,,None,15-25\n"  # 5: no image named
        "five,5.jpg,,\n"  # 6: no label
        "six,6.jpg,None\n"  # 7: too few values
        "seven,7.jpg,None,15-25,more\n"  # 8: too many
    )
    expected = "Expected one of"
    assert _list_faults(_read(text, data, tmp_path)) == [
        (4, "unknown class", f"unknown carryingbag 'none'. Did you mean 'None'? {expected} "
         "Plastic/Paper, None"),
        (4, "unknown class", f"unknown age '15-24'. Did you mean '15-25'? {expected} 15-25, 25-35"),
        (5, "no image named", "the cell is empty"),
        (6, "no label", "all labels are empty"),
        (7, "malformed row", "3 values; the header has 4"),
        (8, "malformed row", "5 values; the header has 4"),
    ]  # fmt: skip


def test_an_empty_label_is_not_a_fault(data: DataParams, tmp_path: Path) -> None:
    annotations = _read(TEXT.replace("None", "  "), data, tmp_path)
    assert annotations.faults.empty
    assert annotations.table["bag"].tolist() == ["", "Plastic/Paper"]


def test_the_delimiter_is_the_one_that_separates_the_needed_columns(
    data: DataParams, tmp_path: Path
) -> None:
    header, *rows = TEXT.replace(",", ";").splitlines()
    text = "\n".join([f"{header};a,b,c,d,e", *(f"{row};" for row in rows)])
    assert _read(text, data, tmp_path).table["age"].tolist() == ["15-25", "25-35"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.replace("age", "agee"), r"a\.csv:1: no column 'age'\. Did you mean 'agee'\?"),
        (TEXT.replace("note", "age"), r"a\.csv:1: column 'age' appears 2 times"),
        (TEXT.splitlines()[0], r"a\.csv: no rows below the header"),
        ("", r"a\.csv: empty\. Expected a header"),
        (TEXT.encode() + b"\xe9,3.jpg,None,15-25", r"a\.csv:4: not UTF-8 text"),
        (TEXT.encode("utf-16-le"), r"a\.csv:1: contains a null character"),
        (TEXT + "no\0te,3.jpg,None,15-25", r"a\.csv:4: contains a null character"),
        (TEXT + 'third,3.jpg,None,"15-25\n', r"a\.csv:4: not a CSV file: unexpected end of data"),
        ("x" * 200_000 + "\nx\n", r"a\.csv:1: no column 'path'"),
    ],
    ids=[
        "misspelled",
        "twice",
        "header only",
        "empty",
        "latin",
        "no mark",
        "null",
        "open quote",
        "one line",
    ],
)
def test_an_unreadable_file_is_reported_in_one_line(
    content: str | bytes, message: str, data: DataParams, tmp_path: Path
) -> None:
    with pytest.raises(AnnotationsError, match=message) as raised:
        _read(content, data.model_copy(update={"keep_columns": ()}), tmp_path)
    assert "\n" not in str(raised.value)


def test_a_file_that_exceeds_its_limit_is_refused(data: DataParams, tmp_path: Path) -> None:
    limits = data.limits.model_copy(update={"annotations_megabytes": 1e-5})
    with pytest.raises(AnnotationsError, match=r"Raise data\.limits\.annotations_megabytes"):
        _read(TEXT, data.model_copy(update={"limits": limits}), tmp_path)


def test_a_missing_file_is_reported(data: DataParams, tmp_path: Path) -> None:
    source = open_source(tmp_path, data.limits)
    with pytest.raises(AnnotationsError, match=r"contains no file 'a\.csv'\. Expected"):
        read_annotations(source, data, HEADS)
    (tmp_path / "aa.csv").touch()
    with pytest.raises(AnnotationsError, match=r"no file 'a\.csv'\. Did you mean 'aa\.csv'\?"):
        read_annotations(source, data, HEADS)


def test_the_name_of_the_file_may_differ_in_form(data: DataParams, tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize("NFD", "märken.CSV")).write_text(TEXT)
    changed = data.model_copy(update={"annotations": unicodedata.normalize("NFC", "märken.csv")})
    annotations = read_annotations(open_source(tmp_path, data.limits), changed, HEADS)
    assert annotations.table["line"].tolist() == [2, 3]


def test_records_are_equal_after_writing_and_reading(data: DataParams, tmp_path: Path) -> None:
    text = TEXT.replace("second", '"a, ""b""\nc\r\nd\re"').replace("None", "")
    table = _read(text, data, tmp_path).table.drop(columns="line").drop(index=[0])
    write_records(table, tmp_path / "records.csv")
    pd.testing.assert_frame_equal(read_records(tmp_path / "records.csv"), table)


def test_memory_stays_below_four_times_the_size_of_the_file(
    data: DataParams, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(TEXT + f"{'long ' * 20_000},3.jpg,None,15-25\n" * 100)
    source = open_source(tmp_path, data.limits)
    one_column = data.model_copy(update={"keep_columns": ()})
    tracemalloc.start()
    try:
        read_annotations(source, one_column, HEADS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3.5 * (tmp_path / "a.csv").stat().st_size


@pytest.mark.parametrize(
    ("text", "changes", "images"),
    [
        (
            TEXT,
            {"image_path": "images/{note}/{path}"},
            ["images/first/1.jpg", "images/second/2.jpg"],
        ),
        (TEXT, {"image_path": "{carryingbag}/{path}"}, ["None/1.jpg", "Plastic/Paper/2.jpg"]),
        (TEXT.replace("path", ""), {"image_column": ""}, ["1.jpg", "2.jpg"]),
        (TEXT.replace("path", ""), {"image_path": "images/{}"}, ["images/1.jpg", "images/2.jpg"]),
        (TEXT.replace("1.jpg", ""), {"image_path": "images/{path}"}, ["", "images/2.jpg"]),
    ],
)
def test_the_path_of_an_image_may_be_composed_of_columns(
    text: str, changes: Mapping[str, str], images: list[str], data: DataParams, tmp_path: Path
) -> None:
    annotations = _read(text, data.model_copy(update=changes), tmp_path)
    assert annotations.table["image"].tolist() == images
    unnamed = annotations.faults.loc[annotations.faults["kind"] == "no image named", "line"]
    assert unnamed.tolist() == [2 + row for row, image in enumerate(images) if not image]


def test_a_pattern_without_columns_is_refused(params: Params) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: data\.image_path: expected a path with"):
        params.change({"data.image_path": "images/file.jpg"})
    changed = params.change({"data.image_path": "{gender}/{image_path}.jpg"})
    assert changed.data.image_path == "{gender}/{image_path}.jpg"
