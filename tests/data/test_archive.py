"""What an archive or a folder may hold, and that nothing beyond it is read."""

import os
import pickle
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from person_attributes.config import LimitsParams, Params
from person_attributes.data.archive import Source, open_source
from person_attributes.errors import SourceError


@pytest.fixture
def limits(params: Params) -> LimitsParams:
    return params.data.limits


def _zip(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


@pytest.mark.parametrize("top", ["", "some folder/"])
def test_one_top_folder_or_none(tmp_path: Path, limits: LimitsParams, top: str) -> None:
    members = {f"{top}labels.csv": b"a", f"{top}images/1.jpg": b"bc", "__MACOSX/._1.jpg": b"x"}
    source = open_source(_zip(tmp_path / "a.zip", members), limits)
    assert "labels.csv" in source
    assert "__MACOSX/._1.jpg" not in source
    assert (source.size("images/1.jpg"), source.read("images/1.jpg")) == (2, b"bc")


def test_a_source_reads_the_same_in_another_process(tmp_path: Path, limits: LimitsParams) -> None:
    (tmp_path / "b").write_bytes(b"folder")
    archive = _zip(tmp_path / "a.zip", {"b": b"zip"})
    for path, content in ((tmp_path, b"folder"), (archive, b"zip")):
        sent: Source = pickle.loads(pickle.dumps(open_source(path, limits)))
        assert sent.read("b") == content


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("/etc/passwd", "has an absolute path"),
        ("C:/secret.jpg", "has an absolute path"),
        ("\\\\server\\secret.jpg", "has an absolute path"),
        ("images/../../secret.jpg", "leads out of the archive"),
        ("..\\secret.jpg", "leads out of the archive"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(
    tmp_path: Path, limits: LimitsParams, name: str, fault: str
) -> None:
    with pytest.raises(SourceError, match=fault):
        open_source(_zip(tmp_path / "a.zip", {"labels.csv": b"", name: b""}), limits)


def test_links_and_encrypted_members_are_refused(tmp_path: Path, limits: LimitsParams) -> None:
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(SourceError, match=r"'link\.jpg' is a link"):
        open_source(tmp_path / "link.zip", limits)
    content = bytearray(_zip(tmp_path / "locked.zip", {"locked.jpg": b"x"}).read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    with pytest.raises(SourceError, match=r"'locked\.jpg' is encrypted"):
        open_source(tmp_path / "locked.zip", limits)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path, limits: LimitsParams) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.jpg", b"one")
        archive.writestr("1.jpg", b"two")
    with pytest.raises(SourceError, match=r"'1\.jpg' is there twice"):
        open_source(tmp_path / "a.zip", limits)


def test_names_mean_the_same_however_they_are_written(tmp_path: Path, limits: LimitsParams) -> None:
    source = open_source(_zip(tmp_path / "a.zip", {"./a/1.jpg": b"1", "b//2.jpg": b"2"}), limits)
    assert (source.read("a/1.jpg"), source.read("./b/./2.jpg")) == (b"1", b"2")
    twice = _zip(tmp_path / "b.zip", {"a/1.jpg": b"1", "a//1.jpg": b"2"})
    with pytest.raises(SourceError, match="is there twice"):
        open_source(twice, limits)


def test_limits_name_the_parameter_to_raise(tmp_path: Path, limits: LimitsParams) -> None:
    path = _zip(tmp_path / "a.zip", {"1": bytes(3000), "2": bytes(3000)})
    for key, value in {"members": 1, "unpacked_gigabytes": 5e-6}.items():
        with pytest.raises(SourceError, match=f"Raise data.limits.{key}"):
            open_source(path, limits.model_copy(update={key: value}))


def test_no_more_is_unpacked_than_a_member_claims(tmp_path: Path, limits: LimitsParams) -> None:
    """A bomb that lies about its size: 50 MB of zeros, said to be 100 bytes."""
    path = _zip(tmp_path / "a.zip", {"bomb": bytes(50_000_000)})
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 100)
    path.write_bytes(content)
    source = open_source(path, limits)
    with pytest.raises(SourceError, match="bomb: cannot be unpacked"):
        source.read("bomb")


def test_a_folder_gives_nothing_from_outside(tmp_path: Path, limits: LimitsParams) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"")
    (inside / "out").symlink_to(tmp_path / "secret")
    (inside / "circle").symlink_to(inside / "circle")
    (inside / "real").write_bytes(b"here")
    (inside / "alias").symlink_to(inside / "real")
    os.mkfifo(inside / "pipe")
    source = open_source(inside, limits)
    assert source.read("alias") == b"here"
    odd = ["a\0b", "x" * 5000, "", ".", "\udc80"]
    for name in ("../secret", str(tmp_path / "secret"), "out", "circle", "pipe", *odd):
        assert name not in source


def test_a_wrong_source_says_what_was_found(tmp_path: Path, limits: LimitsParams) -> None:
    with pytest.raises(SourceError, match=r"expected a folder or a \.zip file\. Received: nothing"):
        open_source(tmp_path / "nowhere", limits)
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    with pytest.raises(SourceError, match="not a readable zip archive"):
        open_source(tmp_path / "broken.zip", limits)
