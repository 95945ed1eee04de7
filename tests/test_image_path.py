"""Paths of images that are composed of columns."""

import pytest

from person_attributes.image_path import ImagePath

COLUMNS = {"folder": ["train", "test"], "id": ["7", "12345"], "": ["a", "b"], "a:b": ["", "x"]}


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("images/{id}.jpg", ["images/7.jpg", "images/12345.jpg"]),
        ("{folder}/{id:04}", ["train/0007", "test/12345"]),
        ("{id:06d}.png", ["000007.png", "012345.png"]),
        ("{}.jpg", ["a.jpg", "b.jpg"]),
        ("{id}/{a:b}.jpg", ["", "12345/x.jpg"]),
    ],
)
def test_a_pattern_is_filled_with_the_cells_of_each_row(pattern: str, paths: list[str]) -> None:
    assert ImagePath.parse(pattern).compose(COLUMNS) == paths


def test_the_path_may_be_one_column() -> None:
    assert ImagePath.of_column("a:b").compose(COLUMNS) == ["", "x"]


@pytest.mark.parametrize("pattern", ["images/id.jpg", "images/{id.jpg", "id}.jpg", "{{id}}", " "])
def test_a_pattern_without_columns_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"such as images/\{file\}\.jpg\. Received: "):
        ImagePath.parse(pattern)
