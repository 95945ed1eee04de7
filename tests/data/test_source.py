"""Sources: accepted and refused archives and folders."""

import io
import os
import pickle
import stat
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import Project

from person_attributes.config import LimitsParams, Params
from person_attributes.data.source import Source, open_source
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
def test_a_single_top_folder_is_optional(tmp_path: Path, limits: LimitsParams, top: str) -> None:
    members = {f"{top}labels.csv": b"a", f"{top}images/1.jpg": b"bc", "__MACOSX/._1.jpg": b"x"}
    source = open_source(_zip(tmp_path / "a.zip", members), limits)
    assert "labels.csv" in source
    assert "__MACOSX/._1.jpg" not in source
    assert (source.size("images/1.jpg"), source.read("images/1.jpg")) == (2, b"bc")


def test_names_may_have_the_top_folder_of_an_archive(tmp_path: Path, limits: LimitsParams) -> None:
    members = {"shop/labels.csv": b"a", "shop/images/1.jpg": b"bc", "shop/shop/1.jpg": b"def"}
    source = open_source(_zip(tmp_path / "a.zip", members), limits)
    assert source.names() == ["labels.csv", "images/1.jpg", "shop/1.jpg"]
    assert "shop/labels.csv" in source
    assert source.read("shop/images/1.jpg") == b"bc"
    assert source.size("shop/1.jpg") == 3
    assert "other/images/1.jpg" not in source


def test_names_that_no_table_can_contain_are_not_listed(
    tmp_path: Path, limits: LimitsParams
) -> None:
    for name in (b"caf\xe9", "café".encode()):
        (tmp_path / os.fsdecode(name)).mkdir()
        (tmp_path / os.fsdecode(name) / "1.jpg").touch()
    assert open_source(tmp_path, limits).names() == ["café/1.jpg"]


def test_a_source_can_be_pickled(tmp_path: Path, limits: LimitsParams) -> None:
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
        ("images/../../secret.jpg", "is outside the archive"),
        ("..\\secret.jpg", "is outside the archive"),
    ],
)
def test_members_outside_the_archive_are_refused(
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
    with pytest.raises(SourceError, match=r"'locked\.jpg' is encrypted\. .* without a password"):
        open_source(tmp_path / "locked.zip", limits)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_members_are_refused(tmp_path: Path, limits: LimitsParams) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.jpg", b"one")
        archive.writestr("1.jpg", b"two")
    with pytest.raises(SourceError, match=r"'1\.jpg' appears twice"):
        open_source(tmp_path / "a.zip", limits)


def test_names_of_members_are_normalized(tmp_path: Path, limits: LimitsParams) -> None:
    source = open_source(_zip(tmp_path / "a.zip", {"./a/1.jpg": b"1", "b//2.jpg": b"2"}), limits)
    assert (source.read("a/1.jpg"), source.read("./b/./2.jpg")) == (b"1", b"2")
    twice = _zip(tmp_path / "b.zip", {"a/1.jpg": b"1", "a//1.jpg": b"2"})
    with pytest.raises(SourceError, match="appears twice"):
        open_source(twice, limits)


class _UnflaggedInfo(zipfile.ZipInfo):
    """A member whose name is bytes without the flag for UTF-8."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.filename.encode("utf-8", "surrogateescape"), self.flag_bits


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("röd/åäö.jpg", "röd/åäö.jpg"),  # macOS
        ("中文.jpg", "中文.jpg"),
        ("caf\udc82.jpg", "café.jpg"),  # code page 437
        ("images\\1.jpg", "images/1.jpg"),  # Windows
    ],
)
def test_names_without_the_flag_for_utf8_are_read(
    tmp_path: Path, limits: LimitsParams, written: str, name: str
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(_UnflaggedInfo(written), b"image")
        archive.writestr("labels.csv", b"")
    source = open_source(tmp_path / "a.zip", limits)
    assert source.names() == [name, "labels.csv"]
    assert source.read(name) == b"image"


@pytest.mark.parametrize(
    ("code_page", "name"),
    [
        ("cp932", "写真/表.jpg"),  # its last byte is a backslash
        ("gbk", "照片/红色.jpg"),
        ("big5", "照片/紅色.jpg"),
        ("cp949", "사진/빨강.jpg"),
        ("cp1252", "Fotos/größe.jpg"),
        ("cp1251", "фото/красный.jpg"),
        ("cp866", "фото/красный.jpg"),
    ],
)
@pytest.mark.parametrize("has_top", [False, True])
def test_names_in_an_old_code_page_are_found(
    tmp_path: Path, limits: LimitsParams, code_page: str, name: str, has_top: bool
) -> None:
    top = f"{name.partition('/')[0]}/" if has_top else ""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member in (f"{top}{name}", f"{top}labels.csv"):
            written = member.encode(code_page).decode("utf-8", "surrogateescape")
            archive.writestr(_UnflaggedInfo(written), member.encode())
    source = open_source(tmp_path / "a.zip", limits)
    assert unicodedata.normalize("NFD", name) in source
    assert source.read(name) == f"{top}{name}".encode()
    assert source.size(name) == len(f"{top}{name}".encode())
    assert f"other {name}" not in source
    assert f"other {name}" not in source.names()


def test_an_archive_that_exceeds_a_limit_is_refused(tmp_path: Path, limits: LimitsParams) -> None:
    path = _zip(tmp_path / "a.zip", {"1": bytes(3000), "2": bytes(3000)})
    for key, value in {"members": 1, "unpacked_gigabytes": 5e-6}.items():
        with pytest.raises(SourceError, match=f"Raise data.limits.{key}"):
            open_source(path, limits.model_copy(update={key: value}))


def test_a_member_with_a_false_size_is_refused(tmp_path: Path, limits: LimitsParams) -> None:
    """A zip bomb: 50 MB of zeros with a declared size of 100 bytes."""
    path = _zip(tmp_path / "a.zip", {"bomb": bytes(50_000_000)})
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 100)
    path.write_bytes(content)
    source = open_source(path, limits)
    with pytest.raises(SourceError, match="bomb: cannot be decompressed"):
        source.read("bomb")


def test_files_outside_the_folder_are_not_read(tmp_path: Path, limits: LimitsParams) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"")
    (inside / "out").symlink_to(tmp_path / "secret")
    (inside / "circle").symlink_to(inside / "circle")
    (inside / "dangling").symlink_to("gone")
    (inside / "real").write_bytes(b"here")
    (inside / "alias").symlink_to(inside / "real")
    os.mkfifo(inside / "pipe")
    source = open_source(inside, limits)
    assert source.read("alias") == b"here"
    odd = ["a\0b", "x" * 5000, "", ".", "\udc80"]
    names = ("../secret", str(tmp_path / "secret"), "out", "circle", "dangling", "pipe", *odd)
    for name in names:
        assert name not in source
    assert source.describe_link("out").startswith("a link that leads out of the source, to /")
    missing = f"a link to {inside / 'gone'}, which is not a file. Correct the link"
    assert source.describe_link("dangling") == missing
    for name in ("../secret", str(tmp_path / "secret"), "gone", "alias", "real", *odd):
        assert not source.describe_link(name)


def test_links_of_dvc_into_its_cache_are_followed(
    tmp_path: Path, limits: LimitsParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "project")
    photos = project.root / "photos"
    (photos / "a").mkdir(parents=True)
    (photos / "a/1.jpg").write_bytes(b"one")
    (photos / "a/2.jpg").write_bytes(b"two")
    project.run("dvc", "init", "--quiet", "--no-scm")
    project.run("dvc", "config", "cache.type", "symlink")
    project.run("dvc", "cache", "dir", str(tmp_path / "cache"))
    project.run("dvc", "add", "--quiet", "photos")
    target = (photos / "a/2.jpg").readlink()
    target.unlink()
    (photos / "3.jpg").symlink_to(tmp_path / "project.txt")
    monkeypatch.chdir(project.root)
    source = open_source(photos, limits)
    assert "a/1.jpg" in source
    assert source.read("a/1.jpg") == b"one"
    assert (
        f"../../cache/{(photos / 'a/1.jpg').readlink().relative_to(tmp_path / 'cache')}"
        not in source
    )
    assert "a/2.jpg" not in source
    assert source.describe_link("a/2.jpg") == f"a link to {target}, which is missing. Run dvc pull"
    assert "3.jpg" not in source
    assert "leads out of the source" in source.describe_link("3.jpg")


def test_a_missing_or_broken_source_is_reported(tmp_path: Path, limits: LimitsParams) -> None:
    with pytest.raises(
        SourceError, match=r"expected a folder or a \.zip file\. Received: no such path"
    ):
        open_source(tmp_path / "nowhere", limits)
    (tmp_path / "photos").symlink_to("unmounted")
    with pytest.raises(SourceError, match="Received: a link to unmounted, which does not exist"):
        open_source(tmp_path / "photos", limits)
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    with pytest.raises(SourceError, match=r"not a readable zip archive: .* Create the archive"):
        open_source(tmp_path / "broken.zip", limits)


def _tar(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("labels.csv"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (_tar("w"), "a tar archive. Unpack it, and name its folder."),
        (_tar("w:gz"), "a gzip archive. Unpack it, and name its folder."),
        (_tar("w:xz"), "an xz archive. Unpack it, and name its folder."),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7-Zip archive. Unpack it, and name its folder."),
        (b"Rar!\x1a\7\1\0", "a RAR archive. Unpack it, and name its folder."),
        (b"\n<!DOCTYPE html>\n<title>Sign in", "an HTML or XML document. Copy or download"),
        (b'{"error": 403}', "JSON. Copy or download the archive again"),
        (b"", "an empty file. Copy or download the archive again"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a pointer of Git LFS. Run git lfs pull.",
        ),
        (b"/annex/objects/MD5E-s3--4d.zip\n", "a pointer of git-annex. Run git annex get."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzip contains the time
)
def test_another_format_that_is_named_zip_is_told(
    tmp_path: Path, limits: LimitsParams, content: bytes, received: str
) -> None:
    (tmp_path / "shop.zip").write_bytes(content)
    with pytest.raises(SourceError) as raised:
        open_source(tmp_path / "shop.zip", limits)
    assert f"shop.zip: expected a zip archive. Received: {received}" in str(raised.value)


def test_a_part_of_an_archive_is_told(tmp_path: Path, limits: LimitsParams) -> None:
    content = _zip(tmp_path / "a.zip", {"1.jpg": os.urandom(500), "2.jpg": b"x"}).read_bytes()
    for part, fault in ((content[:400], "the end"), (content[400:], "the beginning")):
        (tmp_path / "a.zip").write_bytes(part)
        with pytest.raises(SourceError, match=rf"a\.zip: {fault} of the archive is missing\."):
            open_source(tmp_path / "a.zip", limits)


@pytest.mark.parametrize(
    ("name", "received"),
    [
        ("shop.tar.gz", r"an archive that ends in \.gz\. Unpack it"),
        ("shop.7Z", r"an archive that ends in \.7Z\. Unpack it"),
        ("shop.zip.001", r"a part of an archive that was split\. Join its parts, or unpack them"),
        ("shop.z01", r"a part of an archive that was split\. Join its parts, or unpack them"),
        ("labels.csv", "another type of file"),
    ],
)
def test_a_file_that_is_no_zip_is_refused(
    tmp_path: Path, limits: LimitsParams, name: str, received: str
) -> None:
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match=rf"Received: {received}\. Correct data\.source"):
        open_source(tmp_path / name, limits)


@pytest.mark.parametrize(
    ("path", "received"),
    [
        ("~/shop", "a path with ~. Write the whole path."),
        ("https://example.org/shop.zip", "a URL. Download the data."),
        ("s3://shop", "a URL. Download the data."),
        ("C:\\Users\\shop", "a path of Windows. Write the path on this machine."),
    ],
)
def test_a_path_that_is_not_of_this_machine_is_named(
    tmp_path: Path, limits: LimitsParams, path: str, received: str
) -> None:
    with pytest.raises(SourceError) as raised:
        open_source(tmp_path / path, limits)
    assert f"Received: {received} Correct data.source" in str(raised.value)


def test_a_missing_source_is_reported_with_a_similar_name(
    tmp_path: Path, limits: LimitsParams
) -> None:
    composed, decomposed = (unicodedata.normalize(form, "städte") for form in ("NFC", "NFD"))
    (tmp_path / decomposed).mkdir()
    with pytest.raises(SourceError, match="differs in its Unicode form only"):
        open_source(tmp_path / composed, limits)
    with pytest.raises(SourceError, match=r"no such path\. Did you mean '.*'\? Correct"):
        open_source(tmp_path / "stadte", limits)
