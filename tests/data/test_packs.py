from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from person_attributes.config import Params
from person_attributes.data.images import decode_image, resize_image
from person_attributes.data.packing import pack_images
from person_attributes.data.packs import channel_statistics, open_pack
from person_attributes.data.source import open_source
from person_attributes.errors import ImageError


def test_a_pack_contains_the_rows_in_order(people: Path, params: Params, tmp_path: Path) -> None:
    limits = params.data.limits
    names = ["resized/3.jpg", "resized/1.jpg"]
    pack_images(open_source(people, limits), names, 32, "keep", limits, tmp_path / "pack.npy")
    pack = open_pack(tmp_path / "pack.npy")
    assert (pack.shape, str(pack.dtype)) == ((2, 32, 32, 3), "uint8")
    for row, name in zip(pack, names, strict=True):
        image = decode_image((people / name).read_bytes(), limits.image_megapixels)
        np.testing.assert_array_equal(row, resize_image(image, 32, "keep"))
    assert isinstance(pack, np.memmap)


def test_black_bars_are_cut_and_height_and_width_may_differ() -> None:
    person = Image.new("RGB", (40, 100), (200, 30, 90))
    padded = Image.new("RGB", (100, 100))
    padded.paste(person, (30, 0))
    padded.putpixel((3, 50), (255, 255, 255))  # a speck in a bar
    whole = resize_image(person, "96x48", "keep")
    assert whole.shape == (96, 48, 3)
    np.testing.assert_array_equal(resize_image(padded, "96x48", "cut"), whole)
    np.testing.assert_array_equal(resize_image(person, "96x48", "cut"), whole)
    assert (resize_image(padded, 48, "keep")[:, 0] == 0).all()


def test_a_black_image_is_not_cut() -> None:
    black = Image.new("RGB", (40, 40))
    assert not resize_image(black, 32, "cut").any()


def test_an_image_that_cannot_be_decoded_after_ingest_is_reported(
    params: Params, tmp_path: Path
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"gone")
    limits = params.data.limits
    with pytest.raises(ImageError, match=r"bad\.png: not a JPEG.* Run the stage ingest again"):
        pack_images(
            open_source(tmp_path, limits),
            ["good.png", "bad.png"],
            32,
            "keep",
            limits,
            tmp_path / "pack.npy",
        )


def test_channel_statistics_use_only_the_given_rows(random: np.random.Generator) -> None:
    images = random.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    rows = np.array([1, 4])
    mean, deviation = channel_statistics(images, rows)
    np.testing.assert_allclose(mean, images[rows].mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(deviation, images[rows].std(axis=(0, 1, 2)))
