"""Names of images that differ between a table and its source."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from person_attributes.data.folder import FolderSource
from person_attributes.data.image_names import Matches, match_names


def _match(folder: Path, files: Sequence[str], listed: Sequence[str]) -> Matches:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    source = FolderSource(folder)
    present = {name for name in listed if name in source}
    absent = [name for name in listed if name not in present]
    return match_names(absent, present, source, "shop")


@pytest.mark.parametrize(
    ("listed", "file"),
    [
        (r"images\0.jpg", "images/0.jpg"),
        ("images/0.jpg", "images/0.JPG"),
        (r".\Images\0.jpg", "images/0.JPG"),
        ("0.jpg", "images/0.jpg"),
        ("images/0", "images/0.png"),
        ("ID_0", "part_1/images/ID_0.jpg"),
        ("images/0.1", "images/0.1.jpeg"),
        ("0", "images/0.jfif"),
        ("my%20images/r%C3%B6d%230.jpg", "my images/röd#0.jpg"),
        ("my images/0.jpg", "my%20images/0.jpg"),
        ("images/\uff110.jpg", "images/10.jpg"),
        ("images/3 PM\u200b.jpg", "images/3\u202fPM.jpg"),  # as macOS names a screenshot
        (r"C:\Users\me\shop\images\0.jpg", "images/0.jpg"),
        (r"\\server\shop\images\0.jpg", "images/0.jpg"),
        ("/kaggle/input/shop/images/0.jpg", "images/0.jpg"),
        ("file:///home/me/images/0.jpg", "images/0.jpg"),
        ("https://example.org/a%20b/images/0.jpg?width=9&b=/1", "images/0.jpg"),
        ("../shop/images/0", "images/0.jpg"),
        (unicodedata.normalize("NFC", "röd/å.jpg"), unicodedata.normalize("NFD", "röd/å.jpg")),
        (unicodedata.normalize("NFD", "röd/å.jpg"), unicodedata.normalize("NFC", "röd/å.jpg")),
    ],
)
def test_names_that_differ_in_form_are_matched(tmp_path: Path, listed: str, file: str) -> None:
    others = ["other.jpg", "images/00.jpg", "x/10.jpg", "0.txt", "labels.csv"]
    others += ["._0.jpg", "images/._0.jpg"]  # metadata of macOS
    assert _match(tmp_path, [file, *others], [listed]) == Matches({listed: file}, {})


def test_the_file_at_the_listed_path_is_preferred(tmp_path: Path) -> None:
    files = ["0.JPG", "copies/0.jpg", "masks/1.jpg", "1.png"]
    assert _match(tmp_path, files, ["0.jpg", "1"]).found == {"0.jpg": "0.JPG", "1": "1.png"}


def test_files_of_the_same_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    listed = [f"{person}/face.jpg" for person in range(20)]
    found = {name: f"data/part/{name}" for name in listed}
    assert _match(tmp_path, list(found.values()), listed) == Matches(found, {})


def test_folders_of_another_machine_are_the_same_for_all_rows(tmp_path: Path) -> None:
    listed = ["/data/train/0.jpg", "/data/val/0.jpg", "/data/val/1.jpg"]
    files = ["train/0.jpg", "val/0.jpg", "rejected/1.jpg"]
    matches = _match(tmp_path, files, listed)
    assert matches.found == {"/data/train/0.jpg": "train/0.jpg", "/data/val/0.jpg": "val/0.jpg"}
    assert list(matches.missing) == ["/data/val/1.jpg"]
    listed[1] = str(tmp_path / "val/0.jpg")  # an absolute path on this machine
    assert _match(tmp_path, files, listed).found == {}
    (tmp_path / "flat").mkdir()
    assert _match(tmp_path / "flat", ["0.jpg", "1.jpg"], listed).found == {}


@pytest.mark.parametrize(
    ("files", "listed", "reason"),
    [
        (["a/0.jpg", "b/0.jpg"], "0.jpg", ". 2 files match: 'a/0.jpg', 'b/0.jpg'"),
        (["a/0.jpg", "a/0.png"], "a/0", ". 2 files match: 'a/0.jpg', 'a/0.png'"),
        (["0.jpg"], "val/0.jpg", ". The nearest one is '0.jpg'"),
        (["images/0.jpg"], "imgs/0.jpg", ". The nearest one is 'images/0.jpg'"),
        (["images/0.jpg"], "images/0.png", ". The nearest one is 'images/0.jpg'"),
        (["a.jpg", "images/IMG_07.jpg", "z.jpg"], "images/IMG_7.jpg", ". The nearest one is "
         "'images/IMG_07.jpg'"),
        (["images/0.tif", "images/1.jpg"], "0", ". The nearest one is 'images/0.tif'. Convert it "
         "to JPEG, PNG, WebP or BMP"),
        (["images/0"], "images/0.jpg", ". The nearest one is 'images/0'"),
        (["labels.csv"], "images/0.jpg", " and no others"),
    ],
)  # fmt: skip
def test_an_ambiguous_or_missing_image_is_described(
    tmp_path: Path, files: Sequence[str], listed: str, reason: str
) -> None:
    matches = _match(tmp_path, files, [listed])
    assert matches == Matches({}, {listed: f"shop contains no image {listed!r}{reason}"})


def test_a_file_is_found_under_one_name_only(tmp_path: Path) -> None:
    files = ["a.jpg", "b.JPG"]
    matches = _match(tmp_path, files, ["a.jpg", "A.jpg", "b.jpg", "B.jpg"])
    assert matches.found == {}
    assert list(matches.missing) == ["A.jpg", "b.jpg", "B.jpg"]
    assert matches.missing["A.jpg"] == (
        "shop contains no image 'A.jpg'. 'a.jpg' matches, but other rows name it in another form"
    )


def test_files_outside_the_source_are_not_matched(tmp_path: Path) -> None:
    outside = tmp_path / "secret.jpg"
    outside.touch()
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "link.jpg").symlink_to(outside)
    listed = ["link", "/secret.jpg", r"..\secret.jpg", str(outside), "x" * 5000, "a\nb"]
    assert _match(folder, ["images/0.jpg"], listed).found == {}
