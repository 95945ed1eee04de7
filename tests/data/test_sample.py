import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from person_attributes.config import Params
from person_attributes.data.sample import SHARES, draw_sample


def _draw(folder: Path, images: int, seed: int) -> dict[str, bytes]:
    folder.mkdir()
    draw_sample(folder, images, image_size=64, seed=seed)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, again = _draw(tmp_path / "a", 5, seed=7), _draw(tmp_path / "b", 5, seed=7)
    assert first == again
    assert len(first) == 6
    assert first != _draw(tmp_path / "c", 5, seed=8)


def test_a_larger_sample_starts_with_a_smaller_one(tmp_path: Path) -> None:
    small, large = _draw(tmp_path / "a", 3, seed=7), _draw(tmp_path / "b", 6, seed=7)
    assert {name: large[name] for name in small if name.endswith(".jpg")} == {
        name: content for name, content in small.items() if name.endswith(".jpg")
    }


def test_images_are_square_with_black_bars_at_the_sides(people: Path) -> None:
    for path in (people / "resized").iterdir():
        with Image.open(path) as image:
            assert image.size == (64, 64)
            assert np.asarray(image.convert("L"))[:, :3].max() < 25


def test_classes_are_declared_and_have_the_expected_shares(tmp_path: Path, params: Params) -> None:
    files = _draw(tmp_path / "a", 600, seed=3)
    rows = list(csv.DictReader(io.StringIO(files["hvc_annotations.csv"].decode())))
    for head in params.heads.values():
        counts = Counter(row[head.column] for row in rows)
        assert set(counts) <= set(head.classes) == set(SHARES[head.column])
        for name, share in SHARES[head.column].items():
            assert abs(counts[name] / len(rows) - share) < 0.07, (head.column, name)
