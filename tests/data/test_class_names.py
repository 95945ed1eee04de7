"""Cells of label columns become class names: other spellings, codes, numbers, missing labels."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

from person_attributes.config import HeadParams, Params
from person_attributes.data.annotations import read_annotations
from person_attributes.data.class_names import describe_unknown, name_classes
from person_attributes.data.source import open_source

_Form = Literal["NFC", "NFD"]


def _name(cells: Sequence[str], **head: Any) -> list[str]:
    return name_classes(pd.Series(cells), HeadParams(column="mood", **head)).tolist()


def test_marks_are_missing_labels() -> None:
    named = _name(["happy", "NA", "", "u", "-1"], classes=("happy", "sad"), missing=("NA", "-1"))
    assert named == ["happy", "", "", "u", ""]


def test_aliases_become_classes() -> None:
    aliases = {"suprise": "surprise", "-1": "none"}
    named = _name(["suprise", "-1", "1", "none"], classes=("none", "surprise"), aliases=aliases)
    assert named == ["surprise", "none", "1", "none"]


def test_numbers_become_classes_by_bins() -> None:
    """As in `numpy.histogram`, the last bin includes its upper edge."""
    ages: dict[str, Any] = {"classes": ("child", "adult", "old"), "bins": (0, 18, 65, 120)}
    named = _name(["0", "17.9", "18", "65", "120"], **ages)
    assert named == ["child", "child", "adult", "old", "old"]
    marked = _name(["-1", "adult", "?"], missing=("-1",), aliases={"?": "old"}, **ages)
    assert marked == ["", "adult", "old"]
    assert _name(["-0.1", "121", "nan", "inf", "ten"], **ages) == [
        "-0.1",
        "121",
        "nan",
        "inf",
        "ten",
    ]
    head = HeadParams(column="age", **ages)
    assert describe_unknown("121", head) == "unknown age '121'. Expected a number from 0 to 120"


@pytest.mark.parametrize(("in_params", "in_file"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_compared_in_one_unicode_form(in_params: _Form, in_file: _Form) -> None:
    red, white, unsure = (unicodedata.normalize(in_params, name) for name in ("röd", "weiß", "né"))
    cells = [unicodedata.normalize(in_file, name) for name in ("röd", "né", "Å", "weiß")]
    aliases = {unicodedata.normalize(in_params, "Å"): red}
    named = _name(cells, classes=(red, white), missing=(unsure,), aliases=aliases)
    assert named == ["röd", "", "röd", "weiß"]


def test_a_row_with_a_mark_trains_the_other_heads(params: Params, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "file,mood,colour\na.jpg,unknown,1\nb.jpg,sad,0\nc.jpg,unknown,?\n"
    )
    heads = {
        "mood": HeadParams(column="mood", classes=("happy", "sad"), missing=("unknown",)),
        "colour": HeadParams(
            column="colour",
            classes=("red", "blue"),
            missing=("?",),
            aliases={"0": "red", "1": "blue"},
        ),
    }
    data = params.data.model_copy(update={"annotations": "labels.csv", "image_column": "file"})
    annotations = read_annotations(open_source(tmp_path, data.limits), data, heads)
    assert annotations.table["mood"].tolist() == ["", "sad", ""]
    assert annotations.table["colour"].tolist() == ["blue", "red", ""]
    assert annotations.faults[["row", "kind"]].to_numpy().tolist() == [[2, "no label"]]


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("h\u0430ppy", "'happy'? The first has CYRILLIC SMALL LETTER A where the second has LATIN "
         "SMALL LETTER A."),
        ("15\u201325", "'15-25'? The first has EN DASH where the second has HYPHEN-MINUS."),
        ("Happy", "'happy'?"),
        ("HAPPY", "'happy'?"),
        ("happý", "'happy'?"),
        ("Unknown", "'unknown'?"),
        ("merri", "'merry'?"),
    ],
)  # fmt: skip
def test_a_similar_label_is_suggested_with_characters_that_look_alike(cell: str, hint: str) -> None:
    head = HeadParams(
        column="mood",
        classes=("happy", "15-25"),
        missing=("unknown",),
        aliases={"merry": "happy"},
    )
    expected = f"unknown mood {cell!r}. Did you mean {hint} Expected one of happy, 15-25"
    assert describe_unknown(cell, head) == expected


def test_a_range_is_not_read_as_one_number() -> None:
    head = HeadParams(column="age", classes=("young", "old"), bins=(0, 30, 120))
    assert name_classes(pd.Series(["3_9", "1e1"]), head).tolist() == ["3_9", "young"]


def test_a_class_with_a_comma_that_lacks_quotes_is_explained() -> None:
    head = HeadParams(column="age", classes=("(0", "2)", "(4", "6)"))  # [(0, 2), (4, 6)] in YAML
    assert describe_unknown("(4, 6)", head).endswith("put a class with a comma in quotes")
    assert "quotes" not in describe_unknown("(8, 12)", head)


@pytest.mark.parametrize(
    "cell",
    ["2012-09-03 00:00:00", "03-Sep", "3. Sep", "Sep-03", "M\u00e4rz 09", "9\u67083\u65e5"],
)
def test_ranges_that_a_spreadsheet_changed_to_dates_are_explained(cell: str) -> None:
    head = HeadParams(column="age", classes=("0-2", "3-9"))
    assert describe_unknown(cell, head).endswith("format the column as text")
    assert "dates" not in describe_unknown("adult", head)
    other = HeadParams(column="age", classes=("young", "old"))
    assert "dates" not in describe_unknown(cell, other)


def test_a_long_label_is_shortened() -> None:
    head = HeadParams(column="mood", classes=("happy", "sad"))
    assert len(describe_unknown("x" * 100_000, head)) < 300


@pytest.mark.parametrize(
    "cell",
    ["a|b", "b, a", "['a', 'b']", "b/a", "b a", "b_a", "b\na", "b\u3001a"],
)
def test_several_labels_in_a_cell_are_described(cell: str) -> None:
    head = HeadParams(column="mood", classes=("a", "b", "n/a"))
    assert describe_unknown(cell, head) == (
        f"2 labels in mood: {cell!r}. Expected one of a, b, n/a. Keep one, or give each label its "
        "own column and head"
    )


@pytest.mark.parametrize("cell", ["happy|angry", "happy|", "sadly", "n / a", "", "[happy]"])
def test_a_cell_with_an_unknown_part_is_one_unknown_label(cell: str) -> None:
    head = HeadParams(column="mood", classes=("happy", "sad", "n/a"))
    assert describe_unknown(cell, head).startswith(f"unknown mood {cell!r}.")
