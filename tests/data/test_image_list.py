"""Lists of images: the formats of annotations."""

import io
from pathlib import Path

import pandas as pd
import pytest

from person_attributes.config import Params
from person_attributes.data.image_list import find_images, read_image_list
from person_attributes.errors import AnnotationsError, SourceError

ROWS = "number,image\n1,a b.jpg\n2,c.jpg\n"


def _parquet(text: str) -> bytes:
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(text)).to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", ROWS.replace(",", ";").encode()),
        ("list.tsv", ROWS.replace(",", "\t").encode()),
        ("list.txt", ROWS.replace(",", "|").encode("utf-16")),
        ("list.txt", ROWS.replace("a b.jpg", '"a b.jpg"').replace(",", "  ").encode()),
        ("list.CSV", ROWS.replace("\n", "\r\n").encode("utf-8-sig")),
        ("list.parquet", _parquet(ROWS)),
    ],
    ids=["semicolons", "tabs", "utf-16", "blanks", "windows", "parquet"],
)
def test_a_list_has_the_formats_of_annotations(
    tmp_path: Path, params: Params, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    names = read_image_list(tmp_path / name, "image", params.data.limits)
    assert names == ["a b.jpg", "c.jpg"]


def test_the_column_may_be_a_pattern(tmp_path: Path, params: Params) -> None:
    (tmp_path / "list.csv").write_text("folder,id\nx,1\ny,23\n")
    pattern = "images/{folder}/{id:03}.jpg"
    names = read_image_list(tmp_path / "list.csv", pattern, params.data.limits)
    assert names == ["images/x/001.jpg", "images/y/023.jpg"]
    with pytest.raises(SourceError, match=r"^--column: expected a path with columns in braces"):
        read_image_list(tmp_path / "list.csv", "images/{id.jpg", params.data.limits)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,n\na.jpg,1,2\n", ":2: 3 values; the header has 2. Correct the row"),
        ("image;n\na.jpg;1\n\nb.jpg\n", ":4: 1 values; the header has 2. Correct the row"),
        ("path,n\na.jpg,1\n", ":1: no column 'image'. Expected columns: image. Received: path"),
        ("image\n\xff\0", ":2: contains a null character"),
        ("", ": empty. Expected a header and rows"),
    ],
)
def test_a_faulty_list_is_one_line_with_the_place(
    tmp_path: Path, params: Params, text: str, message: str
) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(AnnotationsError) as raised:
        read_image_list(path, "image", params.data.limits)
    assert str(raised.value).startswith(f"{path}{message}")
    assert "\n" not in str(raised.value)


def test_listed_images_are_found_under_names_of_another_form(tmp_path: Path) -> None:
    (tmp_path / "shop/images").mkdir(parents=True)
    for path in ("shop/images/0.JPG", "shop/images/1.jpg", "2.jpg"):
        (tmp_path / path).touch()
    outside = ["../2.jpg", str(tmp_path / "2.jpg")]  # a list may name any file
    names = [r"images\0.jpg", "images/1.jpg", "1", "", "x" * 5000, "nowhere.jpg", *outside]
    assert find_images(tmp_path / "shop", names) == {r"images\0.jpg": "images/0.JPG"}
