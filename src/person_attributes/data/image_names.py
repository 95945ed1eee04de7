"""Finds images that a table names in another form than their source."""

import re
import unicodedata
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import PurePosixPath
from urllib.parse import unquote

from person_attributes.data.source import Source
from person_attributes.invisible import remove_invisible

IMAGE_SUFFIXES = frozenset({".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".webp"})
"""Endings of images, in lower case."""

_UNREADABLE_SUFFIXES = frozenset({".avif", ".gif", ".heic", ".heif", ".tif", ".tiff"})
"""Endings of images in other formats."""

_ABSOLUTE = re.compile(r"(|~[^/\\]*|\$[^/\\]*|%\w+%|\.\.|[A-Za-z][\w+.-]*:)[/\\]")
"""The beginning of a path that is not relative to the source, or of a URL."""

_QUERY = re.compile(r"^([A-Za-z][\w+.-]+://[^?#]*)[?#].*", re.DOTALL)

_MAX_LISTED = 3
"""Number of files in a message."""

_MAX_LENGTH = 300
"""Characters of a listed name in a message."""


@dataclass(frozen=True)
class Matches:
    """Images that the source does not contain under their listed names.

    Attributes:
        found: `{listed name: name in the source}`.
        missing: `{listed name: reason}` for all others.
    """

    found: dict[str, str]
    missing: dict[str, str]


def is_image_name(name: str) -> bool:
    """Whether a name ends like that of an image. macOS writes its metadata to `._NAME`."""
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("._")


def is_unreadable_name(name: str) -> bool:
    """Whether a name ends like that of an image in a format that is not read."""
    return PurePosixPath(name).suffix.lower() in _UNREADABLE_SUFFIXES


def fold_name(name: str) -> str:
    """Returns a name without the differences between systems.

    They are the case of letters, slashes, the Unicode form, kinds of blanks, characters without
    width, and characters encoded as in a URL.
    """
    visible = remove_invisible(unicodedata.normalize("NFKC", unquote(name)))
    path = PurePosixPath(visible.replace("\\", "/"))
    return unicodedata.normalize("NFKC", str(path).casefold())


def match_names(
    absent: Collection[str], present: Collection[str], source: Source, where: str
) -> Matches:
    """Finds images whose names differ from the listed ones in form only.

    The case of letters, the direction of slashes, the Unicode form and codes such as `%20` may
    differ. The listed name may lack the ending or the first folders. If it is an absolute path or a
    URL, it may begin with folders of another machine: the same for all rows, and none of these
    names must be present. An image is found if one file matches, and no other listed name.

    Args:
        absent: Listed names that the source does not contain.
        present: Listed names that it contains.
        source: The source of the images.
        where: The source as the user named it, for the reasons.
    """
    if not absent:
        return Matches({}, {})
    keys = {name: fold_name(_cut_query(name)) for name in absent}
    if not any(map(_ABSOLUTE.match, present)):
        keys = _cut_foreign_folders(keys, source)
    files = _Files(source, keys.values())
    candidates = {name: files.find(key) for name, key in keys.items()}
    claims = Counter(names[0] for names in candidates.values() if len(names) == 1)
    claims.update(str(PurePosixPath(name)) for name in present)
    found = {
        name: names[0]
        for name, names in candidates.items()
        if len(names) == 1 and claims[names[0]] == 1
    }
    missing = {
        name: source.describe_link(name)
        or _describe(name, where, names, files.find_nearest(keys[name]))
        for name, names in candidates.items()
        if name not in found
    }
    return Matches(found, missing)


def describe_renamed(found: Mapping[str, str]) -> list[str]:
    """Returns one line with the number of images that were found and the first one, or none."""
    return [
        f"{len(found)} listed names differ from those of the files, first {listed!r}: {file!r}"
        for listed, file in islice(found.items(), 1)
    ]


def _cut_query(name: str) -> str:
    """Removes the part of a URL after its path."""
    return _QUERY.sub(r"\1", name)


def _cut_foreign_folders(keys: Mapping[str, str], source: Source) -> dict[str, str]:
    """Removes the first folders from absolute paths, if they are the same for all.

    Args:
        keys: `{listed name: folded name}` of names that the source does not contain.
        source: The source of the images.

    Returns:
        `{listed name: folded name}` with as few folders removed as needed to find a file.
    """
    absolute = [key for key in keys.values() if _ABSOLUTE.match(key)]
    if not absolute:
        return dict(keys)
    folders = [key.split("/")[:-1] for key in absolute]
    shared = _count_common(min(folders), max(folders))
    paths = {path for file in source.names() for path in _spell(fold_name(file))}
    fitting = (
        depth
        for depth in range(1, shared + 1)
        if any(_cut_folders(key, depth) in paths for key in absolute)
    )
    depth = next(fitting, shared)
    return {
        name: _cut_folders(key, depth) if _ABSOLUTE.match(key) else key
        for name, key in keys.items()
    }


def _cut_folders(path: str, count: int) -> str:
    return path.split("/", count)[-1]


class _Files:
    """The files of a source, by the names under which they may be listed; see `fold_name`."""

    def __init__(self, source: Source, listed: Iterable[str]) -> None:
        self._source = source
        keys = set(listed)
        names = {_file_name(path) for key in keys for path in _spell(key)}
        self._by_path: dict[str, list[str]] = {key: [] for key in keys}
        self._in_folders: dict[str, list[str]] = {key: [] for key in keys}
        self._by_file_name: dict[str, str] = {}
        self._images: list[tuple[str, str]] = []
        for file in source.names():
            paths = _spell(fold_name(file))
            if len(paths) > 1:
                self._images.append((paths[0], file))
            for path in paths:
                if path in keys:
                    self._by_path[path].append(file)
                for key in keys.intersection(_drop_folders(path)):
                    self._in_folders[key].append(file)
                if _file_name(path) in names:
                    self._by_file_name.setdefault(_file_name(path), file)
            stem, dot, suffix = _file_name(paths[0]).rpartition(".")
            if stem in names and dot + suffix in _UNREADABLE_SUFFIXES:
                self._by_file_name.setdefault(stem, file)
        self._images.sort()

    def find(self, key: str) -> list[str]:
        """Lists the files that a name may mean: those at its path, or else in other folders."""
        files = self._by_path[key] or self._in_folders[key]
        return sorted(file for file in files if file in self._source)

    def find_nearest(self, key: str) -> str:
        """Returns an image of the same name, or else of a similar one; empty if there is none."""
        for path in _spell(key):
            if file := self._by_file_name.get(_file_name(path)):
                return file
        place = bisect(self._images, (key, ""))
        neighbours = self._images[max(place - 1, 0) : place + 1]
        common = {file: _count_common(key, other) for other, file in neighbours}
        return max(common, key=lambda file: common[file], default="")


def _spell(path: str) -> list[str]:
    """Returns the path of a file and, if it is an image, the path without its ending."""
    return [path, path.rpartition(".")[0]] if is_image_name(path) else [path]


def _drop_folders(path: str) -> Iterator[str]:
    """Yields a path without its first folder, without its first two folders, and so on."""
    while "/" in path:
        path = path.partition("/")[2]
        yield path


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _count_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns the length of the common beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _describe(name: str, where: str, candidates: list[str], nearest: str) -> str:
    """Says where an image was searched, and which files it may be."""
    reason = f"{where} contains no image {name[:_MAX_LENGTH]!r}"
    if len(candidates) > 1:
        listed = ", ".join(map(repr, candidates[:_MAX_LISTED]))
        return f"{reason}. {len(candidates)} files match: {listed}"
    if candidates:
        return f"{reason}. {candidates[0]!r} matches, but other rows name it in another form"
    if not nearest:
        return f"{reason} and no others"
    advice = ". Convert it to JPEG, PNG, WebP or BMP" if is_unreadable_name(nearest) else ""
    return f"{reason}. The nearest one is {nearest!r}{advice}"
