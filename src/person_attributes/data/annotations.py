"""From an annotations CSV to checked records and a quarantine list."""

import difflib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from person_attributes.config import DataParams, HeadParams
from person_attributes.data.archive import Source
from person_attributes.data.images import decode_image
from person_attributes.errors import AnnotationsError, ImageError

_FIRST_LINE = 2
"""The line of row 0: the header is line 1."""


@dataclass(frozen=True)
class Ingested:
    """What came of an annotations file.

    Attributes:
        records: The good rows: index `row` (0 for the first line below the header), column
            `image` (name in the source), then a column of class names for each head.
        quarantine: The bad rows: columns `line`, `image` and `reason`.
    """

    records: pd.DataFrame
    quarantine: pd.DataFrame


def ingest_annotations(
    source: Source, data: DataParams, heads: Mapping[str, HeadParams]
) -> Ingested:
    """Reads annotations, checks every label and decodes every image once.

    Args:
        source: The folder or archive.
        data: Which file and column to read, and the share of bad rows to accept.
        heads: The label columns and their known classes.

    Returns:
        Good and bad rows.

    Raises:
        AnnotationsError: If the file or a column is missing, a class is unknown, or more rows are
            bad than `data.max_quarantined_share` accepts.
    """
    table = _read_table(source, data, heads)
    _check_classes(table, data, heads)
    records = pd.DataFrame({"image": table[data.image_column]})
    for name, head in heads.items():
        records[name] = table[head.column]
    records.index.name = "row"
    reasons = _find_bad_images(source, records["image"])
    quarantine = pd.DataFrame(
        {
            "line": [row + _FIRST_LINE for row in reasons],
            "image": [records["image"].iloc[row] for row in reasons],
            "reason": list(reasons.values()),
        }
    )
    _check_quarantine(quarantine, len(records), data)
    return Ingested(records.drop(index=list(reasons)), quarantine)


def _read_table(source: Source, data: DataParams, heads: Mapping[str, HeadParams]) -> pd.DataFrame:
    if data.annotations not in source:
        raise AnnotationsError(
            f"{data.source}: no file {data.annotations!r} in it. Expected the annotations CSV "
            "there. Correct data.annotations in params.yaml."
        )
    try:
        # Every cell stays text: `None` is a class of its own, not a missing value.
        table = pd.read_csv(
            io.BytesIO(source.read(data.annotations)), dtype=str, keep_default_na=False
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise AnnotationsError(
            f"{data.annotations}: not a CSV file in UTF-8: {' '.join(str(error).split())}. "
            "Mend the file."
        ) from None
    needed = [data.image_column, *(head.column for head in heads.values())]
    for column in needed:
        if column not in table.columns:
            near = difflib.get_close_matches(column, list(table.columns), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise AnnotationsError(
                f"{data.annotations}:1: no column {column!r}.{hint} Expected the columns "
                f"{', '.join(needed)}. Received: {', '.join(table.columns)}. "
                "Correct the header or params.yaml."
            )
    if table.empty:
        raise AnnotationsError(f"{data.annotations}: no rows below the header. Add annotations.")
    return table


def _check_classes(table: pd.DataFrame, data: DataParams, heads: Mapping[str, HeadParams]) -> None:
    """Refuses unknown classes: one line for each wrong name, with its first place and its count."""
    faults = []
    for head in heads.values():
        values = table[head.column]
        for value, places in values[~values.isin(head.classes)].groupby(values):
            near = difflib.get_close_matches(str(value), head.classes, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            faults.append(
                f"{data.annotations}:{places.index[0] + _FIRST_LINE}: unknown {head.column} "
                f"{value!r} ({len(places)} rows).{hint} Expected one of "
                f"{', '.join(head.classes)}. Fix the rows or add the class to params.yaml."
            )
    if faults:
        raise AnnotationsError("\n".join(faults))


def _find_bad_images(source: Source, images: pd.Series) -> dict[int, str]:
    """Decodes every image and gives the reason for each that is missing, broken or repeated."""
    reasons: dict[int, str] = {}
    seen: dict[str, int] = {}
    rows: Iterator[str] = iter(tqdm(images, "checking images", unit="image", disable=None))
    for row, name in enumerate(rows):
        if name in seen:
            reasons[row] = f"the same image as line {seen[name] + _FIRST_LINE}"
        elif name not in source:
            reasons[row] = "no such image"
        else:
            seen[name] = row
            try:
                decode_image(source.read(name))
            except ImageError as error:
                reasons[row] = str(error)
    return reasons


def _check_quarantine(quarantine: pd.DataFrame, rows: int, data: DataParams) -> None:
    share = len(quarantine) / rows
    if share > data.max_quarantined_share:
        first = quarantine.iloc[0]
        raise AnnotationsError(
            f"{data.annotations}:{first['line']}: {first['image']}: {first['reason']}; "
            f"{len(quarantine)} of {rows} rows are like this (share {share:.3f}). Expected at most "
            f"{data.max_quarantined_share}. Mend the images or raise data.max_quarantined_share."
        )
    if len(quarantine) == rows:
        raise AnnotationsError(
            f"{data.annotations}: no row has a readable image. Correct data.image_column."
        )


def write_records(records: pd.DataFrame, path: Path) -> None:
    """Writes records as CSV, with their row numbers."""
    records.to_csv(path, lineterminator="\n")


def read_records(path: Path) -> pd.DataFrame:
    """Reads records that `write_records` wrote; every cell is text."""
    records = pd.read_csv(path, dtype=str, keep_default_na=False)
    records.index = pd.Index(records.pop("row").astype(int), name="row")
    return records
