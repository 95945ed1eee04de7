"""The fuzzed functions, the checks of their results, and a guard against side effects."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from person_attributes.config import DataParams, HeadParams, LimitsParams
from person_attributes.data.annotations import FAULT_COLUMNS, read_annotations
from person_attributes.data.image_list import find_images, read_image_list
from person_attributes.data.images import decode_image
from person_attributes.data.ingest import ingest
from person_attributes.data.source import open_source
from person_attributes.errors import PersonAttributesError

CORPUS = Path(__file__).parent / "corpus"

_LIMITS = LimitsParams(
    members=50,
    unpacked_gigabytes=0.01,
    annotations_megabytes=1.0,
    image_megabytes=1.0,
    image_megapixels=0.25,
)

_DATA = DataParams(
    source="source",
    annotations="labels.csv",
    image_column="file",
    image_path="",
    keep_columns=(),
    limits=_LIMITS,
    black_bars="keep",
    image_sizes=(32,),
    max_quarantined_share=1.0,
)

_HEADS = {
    "shape": HeadParams(column="shape", classes=("round/oval", "None")),
    "paint": HeadParams(column="paint", classes=("red", "green", "blue")),
}

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzzing-"))

_LISTED = _FOLDER / "listed"
_LISTED.mkdir()
for _name in ("1.JPG", "2.jpg", "röd 3.png", "4.jpg.png"):
    (_LISTED / _name).touch()

_SUFFIXES = {b"PAR1": ".parquet", b"PK": ".xlsx"}
"""Endings of lists of images by their first bytes; the others are text."""

_CHANGES_FILES = frozenset(
    {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate"}
)

_STARTS_OR_CONNECTS = frozenset(
    {"os.exec", "os.posix_spawn", "os.system", "socket.connect", "subprocess.Popen"}
)

_IMPORTS = (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent.parent)

_CGROUPS = (Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))

_READABLE = (_FOLDER, *_IMPORTS, *_CGROUPS)
"""What may be read: the folder of the input, Python's imports, and the quotas of the process."""

_is_watching, _may_watch = False, True


class ForbiddenAccessError(BaseException):
    """An input made the code access a resource that it must not access."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _is_watching:
        return
    if event in _STARTS_OR_CONNECTS or event in _CHANGES_FILES:
        raise ForbiddenAccessError(f"{event}: {arguments}")
    if event == "open" and isinstance(arguments[0], str | bytes):
        raw = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode()
        path, mode = Path(raw).absolute(), arguments[1] or "r"
        is_written = any(letter in str(mode) for letter in "wxa+")
        if is_written or not any(path.is_relative_to(folder) for folder in _READABLE):
            raise ForbiddenAccessError(f"open: {path} {mode}")


sys.addaudithook(_watch)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Raises if the block writes files, starts processes, connects, or reads other folders."""
    global _is_watching
    _is_watching = _may_watch
    try:
        yield
    finally:
        _is_watching = False


def read_image(content: bytes) -> None:
    """Decodes an image: the result is RGB within the size limit, or there is a one-line error."""
    with _allow_one_line_errors(), watched():
        image = decode_image(content, _LIMITS.image_megapixels)
        assert image.mode == "RGB"
        assert image.width * image.height <= _LIMITS.image_megapixels * 1e6


def read_table(content: bytes) -> None:
    """Reads annotations: rows have line numbers and valid labels, or there is a one-line error."""
    (_FOLDER / "labels.csv").write_bytes(content)
    with _allow_one_line_errors(), watched():
        annotations = read_annotations(open_source(_FOLDER, _LIMITS), _DATA, _HEADS)
        assert annotations.table["line"].is_monotonic_increasing
        assert list(annotations.faults.columns) == FAULT_COLUMNS
        valid = annotations.table.drop(index=list(annotations.faults["row"].unique()))
        for head, section in _HEADS.items():
            assert valid[head].isin(["", *section.classes]).all()


def read_list(content: bytes) -> None:
    """Reads a list of images: only files of the list's folder are found, or a one-line error."""
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if content.startswith(start)), "")
    path = _LISTED / f"list{suffix or '.csv'}"
    path.write_bytes(content)
    with _allow_one_line_errors(), watched():
        names = read_image_list(path, "{folder}/{file}", _LIMITS)
        for name, file in find_images(_LISTED, names).items():
            assert name in names
            assert (_LISTED / file).is_file()
            assert ".." not in Path(file).parts


def read_archive(content: bytes) -> None:
    """Ingests an archive: every row is a record or quarantined, or there is a one-line error."""
    path = _FOLDER / "data.zip"
    path.write_bytes(content)
    with _allow_one_line_errors(), watched():
        ingested = ingest(open_source(path, _LIMITS), _DATA, _HEADS)
        assert not set(ingested.records.index) & set(ingested.quarantine["row"])
        assert len(ingested.records) == len(ingested.thumbnails) == len(ingested.appearances)
        assert ingested.quarantine["reason"].ne("").all()
        assert not ingested.records["image"].duplicated().any()


@contextlib.contextmanager
def _allow_one_line_errors() -> Iterator[None]:
    """Suppresses the project's own errors, whose messages must have one line."""
    try:
        yield
    except PersonAttributesError as error:
        if "\n" in str(error):
            raise AssertionError(f"more than one line: {error}") from error


TARGETS: dict[str, Callable[[bytes], None]] = {
    "annotations": read_table,
    "archives": read_archive,
    "images": read_image,
    "lists": read_list,
}


def prepare() -> None:
    """Runs lazy imports first: the guard would attribute them to an input."""
    for name, target in TARGETS.items():
        with _unwatched():
            for content in read_corpus(name):
                target(content)


@contextlib.contextmanager
def _unwatched() -> Iterator[None]:
    global _may_watch
    _may_watch = False
    try:
        yield
    finally:
        _may_watch = True


def read_corpus(target: str) -> list[bytes]:
    """Reads the inputs that mutations start from."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
