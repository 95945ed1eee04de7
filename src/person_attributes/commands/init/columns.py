"""Proposes heads for the columns of a table."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from person_attributes.config import is_reserved_head
from person_attributes.data.class_names import parse_number
from person_attributes.errors import one_line

_MISSING = frozenset(
    {"#n/a", "#null!", "(null)", "-", "--", ".", "<na>", "?", "\\n", "missing", "n.a.", "n/a", "na"}
    | {"nan", "not available", "null", "u", "undefined", "unk", "unknown", "unspecified"}
)
"""Cells that usually mean a missing label, in lower case. `None` is a class in many tables."""

_MAX_CLASSES = 50
_MAX_NUMBERS = 10
"""More numbers are a measurement, not classes."""

_MIN_ROWS_PER_CLASS = 3
"""On average; fewer rows are names or free text."""

_PARTS = frozenset({"fold", "partition", "split", "subset"})
"""Columns that name a part of a split, in lower case."""

_MAX_NAME = 80
"""Characters of the name of a head, without what makes it unique."""

_MAX_LISTED = 6
"""Number of classes in a description."""

_MAX_LABEL = 60
"""Characters of a class in a description."""


@dataclass(frozen=True)
class Column:
    """What a column of a table contains.

    Attributes:
        name: Its name in the table.
        head: Its section of `heads` in `params.yaml`; empty if no head is proposed.
        description: The classes with their number of rows, or why it is no head.
    """

    name: str
    head: dict[str, Any]
    description: str


def describe_column(name: str, cells: Iterable[str]) -> Column:
    """Proposes a head for a column with few different values."""
    counts: Counter[str] = Counter()
    for cell, count in Counter(cells).items():
        counts[unicodedata.normalize("NFC", cell)] += count
    del counts[""]
    missing = sorted(cell for cell in counts if _is_missing(cell, counts))
    labels = Counter({cell: count for cell, count in counts.items() if cell not in missing})
    if obstacle := _find_obstacle(name, labels):
        return Column(name, {}, obstacle)
    head = {"column": name, "classes": sorted(labels, key=_natural_order)}
    if missing:
        head["missing"] = missing
    listed = [
        f"{one_line(label, _MAX_LABEL)} {count:,}"
        for label, count in labels.most_common(_MAX_LISTED)
    ]
    if len(labels) > _MAX_LISTED:
        listed.append(f"and {len(labels) - _MAX_LISTED} more")
    listed += [f"{cell} {counts[cell]:,} (missing label)" for cell in missing]
    return Column(name, head, ", ".join(listed) + _describe_variants(head["classes"]))


def _describe_variants(labels: Iterable[str]) -> str:
    """Names the first labels that differ in form only; empty if there are none."""
    groups: dict[str | float, str] = {}
    for label in labels:
        other = groups.setdefault(_fold_label(label), label)
        if other != label:
            return f"; {other!r} and {label!r} may be one class: see aliases in docs/data.md"
    return ""


def _fold_label(label: str) -> str | float:
    """Returns the value of a number, or other text without differences in form."""
    number = parse_number(label)
    if number is not None:
        return number
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def name_heads(columns: Sequence[Column]) -> dict[str, dict[str, Any]]:
    """Returns the section `heads`: the proposed heads under valid and unique names."""
    heads: dict[str, dict[str, Any]] = {}
    identifiers = [_to_identifier(column.name) for column in columns]
    for column, identifier in zip(columns, identifiers, strict=True):
        if column.head:
            is_reserved = is_reserved_head(identifier, identifiers)
            name = base = f"head_{identifier}" if is_reserved else identifier
            number = 1
            while name in heads:
                number += 1
                name = f"{base}_{number}"
            heads[name] = column.head
    return heads


def _is_missing(cell: str, counts: Mapping[str, int]) -> bool:
    """Whether a cell means a missing label, among the other cells of its column.

    -1 does, unless it is the opposite of 1. A single letter does not in an alphabet.
    """
    if cell == "-1":
        return not counts.keys() <= {"-1", "0", "1"}
    return cell.casefold() in _MISSING and not (cell.casefold() == "u" and "v" in counts)


def _find_obstacle(name: str, labels: Mapping[str, int]) -> str:
    """Says why the labels of a column are no classes; empty if they may be classes."""
    rows, count = sum(labels.values()), len(labels)
    if not name:
        return "the column has no name"
    if count < 2:
        return "the same value in all rows" if labels else "empty"
    if name.casefold() in _PARTS:
        return "part of a split"
    if _has_several_labels(labels):
        return "several labels in a cell; a head has one"
    if count > _MAX_NUMBERS and None not in map(parse_number, labels):
        return f"{count:,} numbers; `bins` of a head make classes of them"
    if count > _MAX_CLASSES or rows < _MIN_ROWS_PER_CLASS * count:
        groups = "; split.method grouped keeps equal ones together" if count < rows else ""
        return f"{count:,} values in {rows:,} rows{groups}"
    return ""


def _has_several_labels(labels: Mapping[str, int]) -> bool:
    """Whether most cells with a separator are composed of labels that other cells have alone."""
    cells = [re.split(r"\s*[|;,]\s*", label) for label in labels]
    if any(label[0] == "[" and label[-1] == "]" for label in labels):
        return True
    composed = [parts for parts in cells if len(parts) > 1]
    known = [parts for parts in composed if all(part in labels for part in parts)]
    return 2 * len(known) > len(composed)


def _natural_order(label: str) -> tuple[bool, float, list[tuple[int, str]]]:
    """Orders numbers by value, and text with the numbers in it by value, as in 2-9, 10-19."""
    number = parse_number(label)
    if number is not None:
        return False, number, []
    parts = re.split(r"(\d+)", label.casefold())
    return True, 0.0, [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _to_identifier(column: str) -> str:
    """Returns a name for a head: lower-case letters, digits and underscores."""
    ascii_name = unicodedata.normalize("NFKD", column).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", ascii_name)
    name = re.sub(r"[^a-z0-9]+", "_", words.lower())[:_MAX_NAME].strip("_")
    if not name:
        return "head"
    return name if name[0].isalpha() else f"head_{name}"
