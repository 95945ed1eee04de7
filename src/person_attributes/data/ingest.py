"""Validates a source: records, quarantined rows, and measurements of images."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import DataParams, HeadParams
from person_attributes.data.annotations import (
    complete_copies,
    find_copies,
    make_faults,
    read_annotations,
)
from person_attributes.data.appearance import THUMBNAIL_SIZE, Appearance, describe_image
from person_attributes.data.decoding import map_images
from person_attributes.data.image_names import match_names
from person_attributes.data.packs import create_array
from person_attributes.data.source import Source
from person_attributes.errors import AnnotationsError, ImageError

_EXAMPLES = 5
"""Number of kinds of faults in a message."""


@dataclass(frozen=True)
class Ingested:
    """The result of validating a source.

    Attributes:
        records: The good rows. Index: `row` (0 is the first row below the header). Columns: `image`
            (name in the source), the kept columns, then one column of class names for each head;
            an empty cell is a missing label.
        quarantine: The bad rows. Columns: `row`, `line`, `image`, `kind` and `reason`.
        appearances: Measurements of each record's image. Columns: `width`, `height`, `brightness`,
            `grey_range`, `sharpness` and `hash`.
        thumbnails: (n, 64, 64) uint8 grey, aligned with the records.
        renamed: `{name in the annotations: name in the source}` of images whose names differ.
    """

    records: pd.DataFrame
    quarantine: pd.DataFrame
    appearances: pd.DataFrame
    thumbnails: npt.NDArray[np.uint8]
    renamed: Mapping[str, str]


def allocate_in_memory(count: int) -> npt.NDArray[np.uint8]:
    """Allocates an array for thumbnails in memory."""
    return np.empty((count, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)


def allocate_on_disk(count: int) -> npt.NDArray[np.uint8]:
    """Allocates an array for thumbnails in a temporary file, deleted together with the array."""
    shape = (count, THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        return np.asarray(create_array(Path(folder) / "thumbnails.npy", np.uint8, shape))


def ingest(
    source: Source,
    data: DataParams,
    heads: Mapping[str, HeadParams],
    allocate: Callable[[int], npt.NDArray[np.uint8]] = allocate_in_memory,
) -> Ingested:
    """Reads annotations, checks every label and decodes every image once.

    Args:
        source: The folder or archive.
        data: The file and the columns to read, and the limits of images.
        heads: The label columns and their known classes.
        allocate: Allocates an array for a number of thumbnails, of 4 KB each.

    Returns:
        Good and bad rows. Call `check_quarantine` to refuse data with too many bad rows.

    Raises:
        AnnotationsError: If the annotations file or a column is missing, or if the file is not a
            table. Correct the file or `data` in `params.yaml`.
    """
    annotations = read_annotations(source, data, heads)
    table, missing, renamed = _match_images(source, annotations.table, data)
    present = table.drop(index=list(missing["row"]))
    measured, bad_images = _measure_images(source, present, data, allocate)
    faults = pd.concat([annotations.faults, missing, bad_images], ignore_index=True)
    good = table["image"].drop(index=list(faults["row"].unique()))
    digests = good.map({name: appearance.digest for name, appearance in measured.items()})
    faults = pd.concat([faults, find_copies(table, digests, heads)], ignore_index=True)
    quarantine = _merge(faults)
    table = complete_copies(table, digests, heads)
    records = table.drop(index=list(quarantine["row"])).drop(columns="line")
    kept = [measured[name] for name in records["image"]]
    appearances = _tabulate(kept).set_index(records.index)
    thumbnails = allocate(len(kept))
    for thumbnail, appearance in zip(thumbnails, kept, strict=True):
        thumbnail[:] = appearance.thumbnail
    return Ingested(records, quarantine, appearances, thumbnails, renamed)


def _match_images(
    source: Source, table: pd.DataFrame, data: DataParams
) -> tuple[pd.DataFrame, pd.DataFrame, Mapping[str, str]]:
    """Finds the images that the source contains under another name, or not at all.

    Returns:
        The table with the names in the source, the faults, and `Ingested.renamed`.
    """
    images = table["image"]
    names = [name for name in images.unique() if name]
    present = {name for name in names if name in source}
    absent = [name for name in names if name not in present]
    matches = match_names(absent, present, source, data.source)
    missing = images[images.isin(matches.missing.keys())]
    reasons = dict(zip(missing.index, missing.map(matches.missing), strict=True))
    named = table.assign(image=[matches.found.get(name, name) for name in images])
    return named, make_faults(table, "missing image", reasons), matches.found


def _measure_images(
    source: Source,
    table: pd.DataFrame,
    data: DataParams,
    allocate: Callable[[int], npt.NDArray[np.uint8]],
) -> tuple[dict[str, Appearance], pd.DataFrame]:
    """Decodes every image in the table once; returns the measurements and the faults."""
    images = table["image"]
    names = [name for name in images.unique() if name]
    thumbnails = allocate(len(names))
    measured: dict[str, Appearance] = {}
    broken: dict[str, str] = {}
    results = map_images(describe_image, source, names, data.limits, "checking images")
    for name, result, thumbnail in zip(names, results, thumbnails, strict=True):
        if isinstance(result, ImageError):
            broken[name] = str(result)
        else:
            thumbnail[:] = result.thumbnail
            measured[name] = replace(result, thumbnail=thumbnail)
    is_broken = images.isin(broken.keys())
    reasons = dict(zip(images.index[is_broken], images[is_broken].map(broken), strict=True))
    return measured, make_faults(table, "bad image", reasons)


def _merge(faults: pd.DataFrame) -> pd.DataFrame:
    """Merges the faults of each row into one row, without duplicates, in the order of the file."""
    unique = faults.drop_duplicates(["row", "kind", "reason"]).sort_values("row", kind="stable")
    return unique.groupby("row", as_index=False).agg(
        {"line": "first", "image": "first", "kind": "first", "reason": "; ".join}
    )


def _tabulate(appearances: Sequence[Appearance]) -> pd.DataFrame:
    columns = ["width", "height", "brightness", "grey_range", "sharpness", "hash"]
    table = pd.DataFrame(
        [[getattr(appearance, column) for column in columns] for appearance in appearances],
        columns=columns,
    )
    return table.round({"brightness": 4, "grey_range": 4, "sharpness": 2})


def describe_quarantine(quarantine: pd.DataFrame) -> list[str]:
    """Returns one line for each kind of fault: its number of rows and the first one."""
    counts = quarantine["kind"].value_counts()
    lines = []
    for kind, count in counts.head(_EXAMPLES).items():
        first = quarantine[quarantine["kind"] == kind].iloc[0]
        lines.append(f"{count} x {kind}, first line {first['line']}: {first['reason']}")
    if len(counts) > _EXAMPLES:
        lines.append(f"and {len(counts) - _EXAMPLES} other kinds")
    return lines


def describe_absent_classes(shares: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns one line for each head with classes that no record has.

    Args:
        shares: `{head: {class: share}}`.
    """
    absent = {
        head: [name for name, share in classes.items() if not share]
        for head, classes in shares.items()
    }
    return [
        f"no record is of the class {' or '.join(map(repr, names))} of heads.{head}"
        for head, names in absent.items()
        if names
    ]


def check_quarantine(ingested: Ingested, data: DataParams, listed_in: str) -> None:
    """Refuses data with too many bad rows.

    Args:
        ingested: The result of `ingest`.
        data: `max_quarantined_share` is the largest accepted share of bad rows.
        listed_in: The file with the bad rows, for the message.

    Raises:
        AnnotationsError: If the share is exceeded, or if no row is good. The message summarizes
            the faults; fix the rows in `listed_in`.
    """
    bad = len(ingested.quarantine)
    rows = bad + len(ingested.records)
    if bad == rows:
        message = (
            f"{data.annotations}: all {rows} rows are bad. Fix the rows in {listed_in}, or correct "
            "data and heads in params.yaml."
        )
    elif bad / rows > data.max_quarantined_share:
        message = (
            f"{data.annotations}: {bad} of {rows} rows are bad, a share of {bad / rows:.4f}. "
            f"Expected at most {data.max_quarantined_share:g}. Fix the rows in {listed_in}, or "
            "raise data.max_quarantined_share in params.yaml to continue without them."
        )
    else:
        return
    lines = [message, *describe_quarantine(ingested.quarantine)]
    if (ingested.quarantine["kind"] == "unknown class").any():
        lines.append(
            "In the head's section of params.yaml, list other spellings in aliases, and labels "
            "that mean that nothing is known in missing."
        )
    raise AnnotationsError("\n  ".join(lines))
