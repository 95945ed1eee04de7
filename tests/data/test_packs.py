from pathlib import Path

import numpy as np

from person_attributes.data.archive import open_source
from person_attributes.data.images import decode_image, resize_image
from person_attributes.data.packs import channel_statistics, open_pack, pack_images


def test_a_pack_holds_the_rows_in_order(people: Path, tmp_path: Path) -> None:
    names = ["resized/3.jpg", "resized/1.jpg"]
    pack_images(open_source(people), names, 32, tmp_path / "pack.npy")
    pack = open_pack(tmp_path / "pack.npy")
    assert (pack.shape, str(pack.dtype)) == ((2, 32, 32, 3), "uint8")
    for row, name in zip(pack, names, strict=True):
        expected = resize_image(decode_image((people / name).read_bytes()), 32)
        np.testing.assert_array_equal(row, expected)
    assert isinstance(pack, np.memmap)


def test_channel_statistics_see_the_given_rows_alone(random: np.random.Generator) -> None:
    images = random.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    rows = np.array([1, 4])
    mean, deviation = channel_statistics(images, rows)
    np.testing.assert_allclose(mean, images[rows].mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(deviation, images[rows].std(axis=(0, 1, 2)))
