"""Copies are found however they were changed, and kept out of different parts."""

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
    looks = [describe_image(b"", image) for image in images]
    thumbnails = np.stack([look.thumbnail for look in looks])
    hashes = [look.hash for look in looks]
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
    "padded": _pad,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(
    portraits: list[Image.Image], change: str
) -> None:
    assert _find([*portraits, CHANGES[change](portraits[11])]) == [(11, 40)]


def test_other_people_are_no_duplicates(portraits: list[Image.Image]) -> None:
    assert _find(portraits) == []


def test_blocks_miss_no_pair(portraits: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("person_attributes.data.near_duplicates._BLOCK", 7)
    assert _find([*portraits, portraits[0], portraits[39]]) == [(0, 40), (39, 41)]


def test_padding_is_trimmed_and_an_even_image_is_not() -> None:
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


def _settle(params: Params, across_parts: str, groups: list[int], *pairs: tuple[int, int]) -> Split:
    section: NearDuplicateParams = params.split.near_duplicates
    named = name_pairs(_pairs(*pairs), RECORDS)
    names = pd.Series(groups, index=RECORDS.index).astype(str)
    return resolve_leaks(
        SPLIT, named, names, section.model_copy(update={"across_parts": across_parts})
    )


ALONE = list(range(8))


def test_pairs_are_told_with_their_parts_then_and_now() -> None:
    records = RECORDS.set_index(pd.Index(range(10, 18), name="row"))
    drawn = Split(train=(10, 11, 12, 13), validation=(14, 15), test=(16, 17))
    named = name_pairs(_pairs((1, 4), (0, 2), (5, 7)), records)
    told = describe_pairs(named, records, drawn, drawn.move([14]))
    assert told["first"].tolist() == [11, 10, 15]
    assert told["second_image"].tolist() == ["4.jpg", "2.jpg", "7.jpg"]
    assert told["first_part"].tolist() == ["train", "train", "validation"]
    assert told["second_part"].tolist() == ["train", "train", "test"]
    assert told["drawn_apart"].tolist() == [True, False, True]
    nothing = describe_pairs(name_pairs(_pairs(), records), records, drawn, drawn)
    assert list(nothing.columns) == list(told.columns)


def test_moving_puts_all_that_hangs_together_into_training(params: Params) -> None:
    settled = _settle(params, "move", ALONE, (1, 4), (4, 6), (0, 2))
    assert settled == Split(train=(0, 1, 2, 3, 4, 6), validation=(5,), test=(7,))
    # Both of a pair between validation and test move too: neither part may know the other.
    assert _settle(params, "move", ALONE, (5, 7)).train == (0, 1, 2, 3, 5, 7)


def test_a_moved_row_takes_its_group_along(params: Params) -> None:
    settled = _settle(params, "move", [0, 0, 2, 3, 4, 5, 6, 4], (1, 4))
    assert settled == Split(train=(0, 1, 2, 3, 4, 7), validation=(5,), test=(6,))


def test_a_part_that_would_be_empty_is_refused(params: Params) -> None:
    with pytest.raises(SplitError, match=r"all 2 rows of the part 'validation' .*similarity"):
        _settle(params, "move", ALONE, (1, 4), (2, 5))


def test_pairs_within_a_part_move_nothing(params: Params) -> None:
    for across_parts in ("move", "fail", "report"):
        assert _settle(params, across_parts, ALONE, (0, 2), (4, 5)) == SPLIT


def test_reporting_moves_nothing_and_failing_names_the_worst_pair(params: Params) -> None:
    assert _settle(params, "report", ALONE, (1, 4)) == SPLIT
    with pytest.raises(SplitError, match=r"1 pairs .* row 1 \(train\) and row 4 \(validation\)"):
        _settle(params, "fail", ALONE, (0, 3), (1, 4))


def test_thumbnails_may_be_mapped_from_disk(tmp_path: Path) -> None:
    thumbnails: npt.NDArray[np.uint8] = np.random.default_rng(0).integers(
        0, 255, (3, 64, 64), dtype=np.uint8
    )
    thumbnails[2] = thumbnails[0]
    np.save(tmp_path / "thumbnails.npy", thumbnails)
    mapped = np.load(tmp_path / "thumbnails.npy", mmap_mode="r")
    pairs = find_near_duplicates(mapped, ["0" * 16] * 3, 0, 0.99)
    assert pairs[["first", "second"]].to_numpy().tolist() == [[0, 2]]
    assert pairs["similarity"].iloc[0] == pytest.approx(1)
