"""Converts the cells of a label column to class names."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Set

import pandas as pd

from person_attributes.config import HeadParams
from person_attributes.errors import suggest

_SEPARATORS = "|,;/+&_-:\\ \n\t、・"
"""Characters between several labels in a cell."""

_SURROUNDINGS = " '\"[](){}"
"""Characters around a label in a list."""

_RANGE = re.compile(r"\d{1,2}-\d{1,2}")
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d 00:00:00|\d{1,2}[-. ]+[^\W\d]{3,4}\.?|[^\W\d]{3,4}\.?[- ]\d{1,2}"
    r"|\d{1,2}\u6708\d{1,2}\u65e5"
)
"""How Excel writes what it takes for a date, such as `2012-09-03 00:00:00`, `03-Sep`, `Sep-03`."""

_MAX_LENGTH = 200
"""Characters of a label in a message."""


def name_classes(cells: pd.Series, head: HeadParams) -> pd.Series:
    """Converts the cells of a label column to class names.

    Names are compared in Unicode's composed form (NFC).

    Args:
        cells: The column, as text.
        head: The classes, and the other contents of cells that stand for them.

    Returns:
        Class names; empty for missing labels. Unknown contents are kept.
    """
    return cells.map({cell: _name_class(cell, head) for cell in cells.unique()})


def _name_class(cell: str, head: HeadParams) -> str:
    label = unicodedata.normalize("NFC", cell)
    if label in head.missing:
        return ""
    if label in head.aliases:
        return head.aliases[label]
    return _find_bin(label, head) if head.bins else label


def _find_bin(label: str, head: HeadParams) -> str:
    """Returns the class of a number; other text and numbers outside of the bins are kept."""
    number = parse_number(label)
    if number is None or not head.bins[0] <= number <= head.bins[-1]:
        return label
    return head.classes[bisect_right(head.bins[:-1], number) - 1]


def parse_number(label: str) -> float | None:
    """Returns the number that a label is; None for other text, and for ranges such as 20_29."""
    try:
        return None if "_" in label else float(label)  # Python reads 20_29 as 2029
    except ValueError:
        return None


def describe_unknown(label: str, head: HeadParams) -> str:
    """Describes a label that is not a class."""
    labels = _split_labels(label, {*head.classes, *head.aliases, *head.missing})
    if labels:
        return (
            f"{len(labels)} labels in {head.column}: {label[:_MAX_LENGTH]!r}. Expected one of "
            f"{', '.join(head.classes)}. Keep one, or give each label its own column and head"
        )
    if head.bins:
        expected = f"Expected a number from {head.bins[0]:g} to {head.bins[-1]:g}"
    else:
        expected = f"Expected one of {', '.join(head.classes)}"
    if "," in label and label in ", ".join(head.classes):
        expected += ". In params.yaml, put a class with a comma in quotes"
    if _DATE.fullmatch(label) and any(map(_RANGE.fullmatch, head.classes)):
        expected += ". Excel takes ranges such as 3-9 for dates: format the column as text"
    hint = suggest(label, [*head.classes, *head.aliases, *head.missing])
    return f"unknown {head.column} {label[:_MAX_LENGTH]!r}.{hint} {expected}"


def _split_labels(cell: str, known: Set[str]) -> list[str]:
    """Splits a cell with several known labels, such as `A|B` or `['A', 'B']`; empty for others."""
    for separator in _SEPARATORS:
        labels = [part.strip(_SURROUNDINGS) for part in cell.split(separator)]
        if len(labels) > 1 and known >= set(labels):
            return labels
    return []
