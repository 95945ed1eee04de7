"""Near-duplicates: detection, and resolution of leaks between parts of the split."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from person_attributes.config import NearDuplicateParams, Params
from person_attributes.data.appearance import describe_image, trim_padding
from person_attributes.data.leakage import describe_pairs, name_pairs, resolve_leaks
from person_attributes.data.near_duplicates import find_near_duplicates
from person_attributes.data.sample import draw_sample
from person_attributes.data.split import Split
from person_attributes.errors import SplitError

DISTANCE, SIMILARITY = 18, 0.9


def _find(images: list[Image.Image]) -> list[tuple[int, int]]:
    appearances = [describe_image(b"", image) for image in images]
    thumbnails = np.stack([appearance.thumbnail for appearance in appearances])
    hashes = [appearance.hash for appearance in appearances]
    pairs = find_near_duplicates(thumbnails, hashes, DISTANCE, SIMILARITY)
    return sorted(zip(pairs["first"].tolist(), pairs["second"].tolist(), strict=True))


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    folder = tmp_path_factory.mktemp("portraits")
    draw_sample(folder, images=40, image_size=128, seed=7)
    return [Image.open(folder / f"resized/{number}.jpg").convert("RGB") for number in range(1, 41)]


def _compress(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def _pad(image: Image.Image) -> Image.Image:
    padded = Image.new("RGB", (300, 128))
    padded.paste(image, (86, 0))
    return padded


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "itself": lambda image: image,
    "smaller": lambda image: image.resize((90, 90)),
    "compressed": _compress,
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "cropped": lambda image: image.crop((3, 2, 127, 128)),
    "cropped by 5 % a side": lambda image: image.crop((6, 6, 122, 122)),
    "cropped by 10 % a side": lambda image: image.crop((13, 13, 115, 115)),
    "cropped at one side": lambda image: image.crop((13, 0, 128, 128)),
    "padded": _pad,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(portraits: list[Image.Image], change: str) -> None:
    assert _find([*portraits, CHANGES[change](portraits[11])]) == [(11, 40)]


def test_different_people_are_not_found(portraits: list[Image.Image]) -> None:
    assert _find(portraits) == []


def test_a_copy_and_its_crop_are_one_pair_each(portraits: list[Image.Image]) -> None:
    cropped = CHANGES["cropped by 10 % a side"](portraits[3])
    assert _find([cropped, *portraits[:8], portraits[3]]) == [(0, 4), (0, 9), (4, 9)]


def test_pairs_across_blocks_are_found(
    portraits: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("person_attributes.data.near_duplicates._BLOCK", 7)
    cropped = CHANGES["cropped by 5 % a side"](portraits[0])
    assert _find([*portraits, cropped, portraits[39]]) == [(0, 40), (39, 41)]


def test_padding_is_trimmed_unless_the_image_has_one_colour() -> None:
    noise = np.random.default_rng(0).integers(60, 255, (40, 20), dtype=np.uint8)
    padded = np.zeros((40, 60), np.uint8)
    padded[:, 20:40] = noise
    padded[:, :20] = np.random.default_rng(1).integers(0, 9, (40, 20))
    np.testing.assert_array_equal(trim_padding(padded), noise)
    even = np.full((9, 9), 30, np.uint8)
    np.testing.assert_array_equal(trim_padding(even), even)


RECORDS = pd.DataFrame({"image": [f"{number}.jpg" for number in range(8)]}).rename_axis("row")
SPLIT = Split(train=(0, 1, 2, 3), validation=(4, 5), test=(6, 7))


def _pairs(*pairs: tuple[int, int]) -> pd.DataFrame:
    return pd.DataFrame([(*pair, 0.9) for pair in pairs], columns=["first", "second", "similarity"])


def _resolve(
    params: Params, across_parts: str, groups: list[int], *pairs: tuple[int, int]
) -> Split:
    section: NearDuplicateParams = params.split.near_duplicates
    named = name_pairs(_pairs(*pairs), RECORDS)
    names = pd.Series(groups, index=RECORDS.index).astype(str)
    return resolve_leaks(
        SPLIT, named, names, section.model_copy(update={"across_parts": across_parts})
    )


UNGROUPED = list(range(8))


def test_pairs_have_their_parts_before_and_after() -> None:
    records = RECORDS.set_index(pd.Index(range(10, 18), name="row"))
    drawn = Split(train=(10, 11, 12, 13), validation=(14, 15), test=(16, 17))
    named = name_pairs(_pairs((1, 4), (0, 2), (5, 7)), records)
    described = describe_pairs(named, records, drawn, drawn.move([14]))
    assert described["first"].tolist() == [11, 10, 15]
    assert described["second_image"].tolist() == ["4.jpg", "2.jpg", "7.jpg"]
    assert described["first_part"].tolist() == ["train", "train", "validation"]
    assert described["second_part"].tolist() == ["train", "train", "test"]
    assert described["drawn_apart"].tolist() == [True, False, True]
    empty = describe_pairs(name_pairs(_pairs(), records), records, drawn, drawn)
    assert list(empty.columns) == list(described.columns)


def test_connected_rows_move_into_training(params: Params) -> None:
    resolved = _resolve(params, "move", UNGROUPED, (1, 4), (4, 6), (0, 2))
    assert resolved == Split(train=(0, 1, 2, 3, 4, 6), validation=(5,), test=(7,))
    # Both rows of a pair between validation and test move.
    assert _resolve(params, "move", UNGROUPED, (5, 7)).train == (0, 1, 2, 3, 5, 7)


def test_a_moved_row_takes_its_group_along(params: Params) -> None:
    resolved = _resolve(params, "move", [0, 0, 2, 3, 4, 5, 6, 4], (1, 4))
    assert resolved == Split(train=(0, 1, 2, 3, 4, 7), validation=(5,), test=(6,))


def test_a_part_that_would_be_empty_is_refused(params: Params) -> None:
    with pytest.raises(SplitError, match=r"all 2 rows of the part 'validation' .*similarity"):
        _resolve(params, "move", UNGROUPED, (1, 4), (2, 5))


def test_pairs_within_a_part_do_not_move(params: Params) -> None:
    for across_parts in ("move", "fail", "report"):
        assert _resolve(params, across_parts, UNGROUPED, (0, 2), (4, 5)) == SPLIT


def test_report_changes_nothing_and_fail_names_the_most_similar_pair(params: Params) -> None:
    assert _resolve(params, "report", UNGROUPED, (1, 4)) == SPLIT
    with pytest.raises(SplitError, match=r"1 pairs .* row 1 \(train\) and row 4 \(validation\)"):
        _resolve(params, "fail", UNGROUPED, (0, 3), (1, 4))


def test_thumbnails_may_be_memory_mapped(tmp_path: Path) -> None:
    thumbnails: npt.NDArray[np.uint8] = np.random.default_rng(0).integers(
        0, 255, (3, 64, 64), dtype=np.uint8
    )
    thumbnails[2] = thumbnails[0]
    np.save(tmp_path / "thumbnails.npy", thumbnails)
    mapped = np.load(tmp_path / "thumbnails.npy", mmap_mode="r")
    pairs = find_near_duplicates(mapped, ["0" * 16] * 3, 0, 0.99)
    assert pairs[["first", "second"]].to_numpy().tolist() == [[0, 2]]
    assert pairs["similarity"].iloc[0] == pytest.approx(1)
