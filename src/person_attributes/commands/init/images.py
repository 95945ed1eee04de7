"""Finds the images of a table by trying its columns."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from person_attributes.data.image_names import is_image_name, is_unreadable_name, match_names
from person_attributes.data.source import Source
from person_attributes.image_path import ImagePath

_TRIED_ROWS = 200
_ROWS_WITH_GUESSES = 20
_FILES_PER_GUESS = 5
_MAX_PATTERNS = 20

_MIN_IMAGES = 0.1
"""Share of the tried rows; fewer different images are found by chance."""


@dataclass(frozen=True)
class Location:
    """How the rows of a table name their images.

    Attributes:
        column: The column with the name of each image.
        pattern: The path of an image, such as `images/{id}.jpg`; empty if the column contains it.
        found: The names in the source of the images that were found, each once.
        tried: Number of rows that were tried.
        others: Patterns that find as many other images, as in folders with equal names of files.
    """

    column: str
    pattern: str
    found: list[str]
    tried: int
    others: Sequence[str] = ()


def locate_images(
    columns: Mapping[str, Sequence[str]], source: Source, where: str
) -> Location | None:
    """Finds out which columns name the images, and how.

    It first tries columns that contain paths, then patterns of paths that it guesses from the names
    of files, and then columns with names that differ in form from those of the files.

    Args:
        columns: `{column: cells}`.
        source: The source of the images.
        where: The source as the user named it.

    Returns:
        The first of those that find most images; None if none finds enough.
    """
    rows = len(next(iter(columns.values())))
    step = max(1, rows // _TRIED_ROWS)
    sample = {name: cells[::step][:_TRIED_ROWS] for name, cells in columns.items()}
    tried = min(rows, _TRIED_ROWS)
    locations: list[Location] = []
    for found in _search(sample, tried, source, where):
        locations += found
        best = max(locations, key=lambda location: len(location.found), default=None)
        if best and len(best.found) == tried:
            break
    if best is None or len(best.found) <= _MIN_IMAGES * tried:
        return None
    return replace(best, others=_list_others(best, locations))


def describe_images(source: Source) -> str:
    """Describes the images of a source, with advice for a table that names none of them."""
    names = sorted(source.names())
    if images := list(filter(is_image_name, names)):
        found = f"{len(images):,} images, such as {images[0]!r}"
        return f"It contains {found}. Correct the paths in the table."
    if others := list(filter(is_unreadable_name, names)):
        found = f"{len(others):,} images in other formats, such as {others[0]!r}"
        return f"It contains {found}. Convert them to JPEG, PNG, WebP or BMP."
    return "Name the folder that contains the table and the images."


def _list_others(best: Location, locations: Iterable[Location]) -> list[str]:
    """Lists the patterns that find as many images as the best one, but none of its images."""
    found = set(best.found)
    return [
        location.pattern
        for location in locations
        if best.pattern and len(location.found) == len(found) and found.isdisjoint(location.found)
    ]


def _search(
    sample: Mapping[str, Sequence[str]], tried: int, source: Source, where: str
) -> Iterator[list[Location]]:
    """Yields the locations of each kind: paths in columns, patterns, and paths in other forms."""
    different = {name: set(cells) - {""} for name, cells in sample.items()}
    candidates = [name for name in sample if len(different[name]) > _MIN_IMAGES * tried]
    present = {column: _find(different[column], source) for column in candidates}
    yield [Location(column, "", names, tried) for column, names in present.items()]
    yield [
        Location(column, pattern, _find(_compose(pattern, sample), source), tried)
        for column, pattern in _guess_patterns(sample, candidates, source)
    ]
    others = {
        column: match_names(different[column].difference(names), names, source, where).found
        for column, names in present.items()
    }
    yield [
        Location(column, "", [*names, *others[column].values()], tried)
        for column, names in present.items()
    ]


def _compose(pattern: str, sample: Mapping[str, Sequence[str]]) -> set[str]:
    return set(ImagePath.parse(pattern).compose(sample))


def _find(names: Iterable[str], source: Source) -> list[str]:
    return sorted(name for name in names if name in source)


def _guess_patterns(
    sample: Mapping[str, Sequence[str]], candidates: Sequence[str], source: Source
) -> list[tuple[str, str]]:
    """Guesses patterns from files whose names contain a cell.

    Args:
        sample: `{column: cells}`.
        candidates: Columns whose cells may name the images.
        source: The source of the images.

    Returns:
        Pairs of such a column and a pattern; patterns of few columns first.
    """
    files = _index_files(source)
    guesses: Counter[tuple[str, str]] = Counter()
    rows = len(next(iter(sample.values())))
    for row in range(0, rows, max(1, rows // _ROWS_WITH_GUESSES)):
        cells = {name: values[row] for name, values in sample.items() if "{" not in name}
        for column in candidates:
            cell = cells.get(column, "")
            words = [files.get(word, []) for word in _split_words(cell)]
            for file in min(filter(None, words), key=len, default=[])[:_FILES_PER_GUESS]:
                if cell in file:
                    guesses[column, _generalize(file, cells, column)] += 1
    guessed = [guess for guess, _ in guesses.most_common() if "{" in guess[1]]
    return sorted(guessed[:_MAX_PATTERNS], key=lambda guess: guess[1].count("{"))


def _index_files(source: Source) -> dict[str, list[str]]:
    """Returns the images of a source by the words in their file names."""
    files: dict[str, list[str]] = defaultdict(list)
    for file in source.names():
        if is_image_name(file) and "{" not in file:
            for word in set(_split_words(PurePosixPath(file).stem)):
                files[word].append(file)
    return files


def _split_words(name: str) -> list[str]:
    """Returns the words and numbers in a name; a number without zeros in front."""
    return [word.lstrip("0") if word.isdecimal() else word for word in re.findall(r"[^\W_]+", name)]


def _generalize(file: str, cells: Mapping[str, str], column: str) -> str:
    """Replaces the cells of a row in the path of a file by the names of their columns."""
    names = [name for name, cell in cells.items() if cell and cell in file]
    names.sort(key=lambda name: (-len(cells[name]), name != column))  # the longest match wins
    zeros = ["0*" if cells[name].isdecimal() else "" for name in names]
    groups = "|".join(
        f"({zero}{re.escape(cells[name])})" for zero, name in zip(zeros, names, strict=True)
    )

    def to_field(match: re.Match[str]) -> str:
        name = names[(match.lastindex or 0) - 1]
        digits = f":0{len(match[0])}" if len(match[0]) > len(cells[name]) else ""
        return f"{{{name}{digits}}}"

    return re.sub(rf"(?<![^\W_])(?:{groups})(?![^\W_])", to_field, file)
