"""Corrections of the demo, in projects whose tables have other forms."""

import io
from pathlib import Path

import pytest
from PIL import Image

from person_attributes.commands.demo.corrections import Corrections
from person_attributes.config import HeadParams, Params
from person_attributes.data.folder import FolderSource
from person_attributes.data.ingest import ingest
from person_attributes.errors import ParamsError


def test_ingest_reads_corrections_of_a_project_with_composed_paths_and_bins(
    params: Params, people: Path, tmp_path: Path
) -> None:
    data = params.data.model_copy(update={"image_path": "images/{id}.jpg", "image_column": ""})
    heads = {
        "age": HeadParams(column="years", classes=("child", "adult"), bins=(0, 18, 120)),
        "size": HeadParams(column="cm", classes=("0", "1"), bins=(0, 2, 250)),
    }
    corrections = Corrections(tmp_path, data, heads)
    content = min(people.rglob("*.jpg")).read_bytes()
    corrections.keep(content, "age", "adult")

    documented = data.model_copy(update={"image_path": "", "annotations": "corrections.csv"})
    done = ingest(FolderSource(tmp_path), documented, heads)
    assert list(done.records["age"]) == ["adult"]
    # `ingest` would read class 1 as a number in the first bin.
    assert list(corrections.describe()["classes"]) == ["age"]
    assert not corrections.accepts("size", "1")


@pytest.mark.parametrize(
    ("kind", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("BMP", ".bmp")]
)
def test_a_photograph_is_kept_under_the_suffix_of_its_format(
    params: Params, tmp_path: Path, kind: str, suffix: str
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, kind)
    Corrections(tmp_path, params.data, params.heads).keep(file.getvalue(), "gender", "male")
    (kept,) = (tmp_path / "images").iterdir()
    assert (kept.suffix, kept.read_bytes()) == (suffix, file.getvalue())


def test_a_column_of_images_with_the_name_of_another_column_is_refused(
    params: Params, tmp_path: Path
) -> None:
    head = HeadParams(column="age", classes=("child", "adult"))
    data = params.data.model_copy(update={"image_path": "{id}.jpg", "image_column": "age"})
    with pytest.raises(ParamsError, match="'age' is also the name of another column"):
        Corrections(tmp_path, data, {"age": head})
