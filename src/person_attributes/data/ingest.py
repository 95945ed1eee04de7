"""From a source to checked records, a quarantine list, and what each image looks like."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import DataParams, HeadParams
from person_attributes.data.annotations import find_copies, make_faults, read_annotations
from person_attributes.data.appearance import THUMBNAIL_SIZE, Appearance, describe_image
from person_attributes.data.archive import Source
from person_attributes.data.decoding import map_images
from person_attributes.data.packs import create_array
from person_attributes.errors import AnnotationsError, ImageError

_EXAMPLES = 5
"""Kinds of faults that a message lists."""


@dataclass(frozen=True)
class Ingested:
    """What came of a source.

    Attributes:
        records: The good rows: index `row` (0 for the first below the header), `image` (name in
            the source), the kept columns, then a column of class names for each head, empty where
            there is no label.
        quarantine: The bad rows: columns `row`, `line`, `image`, `kind` and `reason`.
        appearances: A row for each record: `width`, `height`, `brightness`, `sharpness`, `hash`.
        thumbnails: (n, 64, 64) uint8 grey, aligned with the records.
    """

    records: pd.DataFrame
    quarantine: pd.DataFrame
    appearances: pd.DataFrame
    thumbnails: npt.NDArray[np.uint8]


def make_room_in_memory(count: int) -> npt.NDArray[np.uint8]:
    """Makes an array for so many thumbnails; nothing is written anywhere."""
    return np.empty((count, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)


def make_room_on_disk(count: int) -> npt.NDArray[np.uint8]:
    """Makes an array for so many thumbnails in a file that has no name and ends with it."""
    shape = (count, THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        return np.asarray(create_array(Path(folder) / "thumbnails.npy", np.uint8, shape))


def ingest(
    source: Source,
    data: DataParams,
    heads: Mapping[str, HeadParams],
    make_room: Callable[[int], npt.NDArray[np.uint8]] = make_room_in_memory,
) -> Ingested:
    """Reads annotations, checks every label and decodes every image once.

    Args:
        source: The folder or archive.
        data: Which file and columns to read, and how large an image may be.
        heads: The label columns and their known classes.
        make_room: Makes the arrays of thumbnails, of 4 KB each.

    Returns:
        Good and bad rows; see `check_quarantine`.

    Raises:
        AnnotationsError: If the file or a column is missing, or it is no CSV file.
    """
    annotations = read_annotations(source, data, heads)
    table = annotations.table
    seen, bad_images = _look_at_images(source, table, data, make_room)
    faults = pd.concat([annotations.faults, bad_images], ignore_index=True)
    good = table["image"].drop(index=list(faults["row"].unique()))
    digests = good.map({name: look.digest for name, look in seen.items()})
    faults = pd.concat([faults, find_copies(table, digests, heads)], ignore_index=True)
    quarantine = _merge(faults)
    records = table.drop(index=list(quarantine["row"])).drop(columns="line")
    kept = [seen[name] for name in records["image"]]
    appearances = _tabulate(kept).set_index(records.index)
    thumbnails = make_room(len(kept))
    for room, look in zip(thumbnails, kept, strict=True):
        room[:] = look.thumbnail
    return Ingested(records, quarantine, appearances, thumbnails)


def _look_at_images(
    source: Source,
    table: pd.DataFrame,
    data: DataParams,
    make_room: Callable[[int], npt.NDArray[np.uint8]],
) -> tuple[dict[str, Appearance], pd.DataFrame]:
    """Decodes every image that a row names, once, and says which are missing or broken."""
    images = table["image"]
    names = [name for name in images.unique() if name]
    present = [name for name in names if name in source]
    thumbnails = make_room(len(present))
    seen: dict[str, Appearance] = {}
    broken: dict[str, str] = {}
    looks = map_images(describe_image, source, present, data.limits, "checking images")
    for name, look, room in zip(present, looks, thumbnails, strict=True):
        if isinstance(look, ImageError):
            broken[name] = str(look)
        else:
            room[:] = look.thumbnail
            seen[name] = replace(look, thumbnail=room)
    missing = dict.fromkeys(images.index[images.isin(set(names) - set(present))], "no such image")
    is_broken = images.isin(broken.keys())
    reasons = dict(zip(images.index[is_broken], images[is_broken].map(broken), strict=True))
    bad = [
        make_faults(table, "missing image", missing),
        make_faults(table, "bad image", reasons),
    ]
    return seen, pd.concat(bad, ignore_index=True)


def _merge(faults: pd.DataFrame) -> pd.DataFrame:
    """Puts all faults of a row into one line, in the order of the file; no fault is told twice."""
    told = faults.drop_duplicates(["row", "kind", "reason"]).sort_values("row", kind="stable")
    return told.groupby("row", as_index=False).agg(
        {"line": "first", "image": "first", "kind": "first", "reason": "; ".join}
    )


def _tabulate(appearances: Sequence[Appearance]) -> pd.DataFrame:
    columns = ["width", "height", "brightness", "sharpness", "hash"]
    table = pd.DataFrame(
        [[getattr(look, column) for column in columns] for look in appearances],
        columns=columns,
    )
    return table.round({"brightness": 4, "sharpness": 2})


def describe_quarantine(quarantine: pd.DataFrame) -> list[str]:
    """Says in a line for each kind of fault how many rows have it, with the first as an example."""
    counts = quarantine["kind"].value_counts()
    lines = []
    for kind, count in counts.head(_EXAMPLES).items():
        first = quarantine[quarantine["kind"] == kind].iloc[0]
        lines.append(f"{count} x {kind}, first line {first['line']}: {first['reason']}")
    if len(counts) > _EXAMPLES:
        lines.append(f"and {len(counts) - _EXAMPLES} other kinds")
    return lines


def check_quarantine(ingested: Ingested, data: DataParams, listed_in: str) -> None:
    """Refuses data of which too much is bad.

    Args:
        ingested: What came of the source.
        data: The share of bad rows to accept.
        listed_in: The file that the quarantine was written to.

    Raises:
        AnnotationsError: If there are more, or no good rows at all; says what is wrong and where
            all of it is listed.
    """
    bad = len(ingested.quarantine)
    rows = bad + len(ingested.records)
    if bad == rows:
        told = f"{data.annotations}: all {rows} rows are bad. Mend what {listed_in} lists."
    elif bad / rows > data.max_quarantined_share:
        told = (
            f"{data.annotations}: {bad} of {rows} rows are bad, a share of {bad / rows:.4f}. "
            f"Expected at most {data.max_quarantined_share:g}. Mend what {listed_in} lists, or "
            "raise data.max_quarantined_share in params.yaml to go on without these rows."
        )
    else:
        return
    raise AnnotationsError("\n  ".join([told, *describe_quarantine(ingested.quarantine)]))
