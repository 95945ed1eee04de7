"""The split into training, validation and test rows, drawn once and stored with a digest."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.config import GroupParams, SplitParams
from person_attributes.errors import SplitError

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, without overlap.

    Attributes:
        train: Training rows.
        validation: Validation rows, used to select epochs and models but not for training.
        test: Test rows, used for the final evaluation only; empty if `test_share` is 0.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        rows = pd.Series([row for part in self.parts.values() for row in part], dtype=np.int64)
        leaked = rows[rows.duplicated()]
        if len(leaked):
            raise SplitError(
                f"split: row {leaked.min()} is in two parts ({len(leaked)} such rows). Expected "
                "every row in one part. Run the stage split again."
            )

    @property
    def parts(self) -> dict[str, tuple[int, ...]]:
        """`{name: rows}` of the parts that have rows."""
        parts = {TRAIN: self.train, VALIDATION: self.validation, TEST: self.test}
        return {name: rows for name, rows in parts.items() if rows}

    @property
    def digest(self) -> str:
        """Digest of all parts; equal for the same rows in the same order."""
        return "".join(digest_rows(rows) for rows in self.parts.values())

    @property
    def validation_digest(self) -> str:
        """Digest of the validation rows; metrics are comparable if it is equal."""
        return digest_rows(self.validation)

    def move(self, rows: Sequence[int]) -> "Split":
        """Returns a split with rows moved to the end of training; other rows keep their order."""
        moved = set(rows) - set(self.train)
        kept = {
            name: tuple(row for row in part if row not in moved)
            for name, part in self.parts.items()
        }
        kept[TRAIN] += tuple(row for row in rows if row in moved)
        return Split(**kept)

    def write(self, path: Path) -> None:
        """Writes the rows and their digest as JSON."""
        content = {"version": 1, "digest": self.digest} | {
            name: list(rows) for name, rows in self.parts.items()
        }
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Split":
        """Reads a split.

        Raises:
            SplitError: If the file was changed since it was written; run the stage `split` again.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            digest = content["digest"]
            parts = {
                TRAIN: tuple(content[TRAIN]),
                VALIDATION: tuple(content[VALIDATION]),
                TEST: tuple(content.get(TEST, ())),
            }
            split = cls(**parts)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise SplitError(
                f"{path.name}: not a split. Expected JSON with train, validation and digest. "
                "Run the stage split again."
            ) from None
        if split.digest != digest:
            raise SplitError(
                f"{path.name}: the digest does not match the rows. Expected {digest}. "
                f"Received: {split.digest}. The file was edited: run the stage split again."
            )
        return split


def digest_rows(rows: Sequence[int]) -> str:
    """Digests row numbers, including their order, as 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()[:16]


def draw_split(
    records: pd.DataFrame,
    annotated: Sequence[int],
    targets: Mapping[str, npt.NDArray[np.float32]],
    params: SplitParams,
) -> Split:
    """Draws the rows of each part.

    `random` draws from all annotated rows and removes those without a record afterwards. So a
    quarantined row does not change the part of another row. On the article's 13,573 annotated rows,
    seed 42 and a share of 0.15 give the article's split (11,537 and 2,036 rows), less the
    quarantined rows.

    Args:
        records: Checked records, indexed by row number.
        annotated: All annotated row numbers in order, including quarantined rows.
        targets: `{head: (n, classes)}` one-hot, aligned with the records.
        params: Method, seed and shares. Shares count groups if the method is `grouped`, otherwise
            rows.

    Returns:
        The split.

    Raises:
        SplitError: If a part has too few rows or groups; add images, or change the shares.
    """
    units = _find_units(records, annotated, params)
    labels = None
    if params.method == "stratified":
        one_hot = [targets[head] for head in params.stratify_by or targets]
        labels = np.concatenate(one_hot, axis=1)
    rest, parts = np.arange(len(units)), {}
    for name, share in ((TEST, params.test_share), (VALIDATION, params.validation_share)):
        if share:
            size = int(np.ceil(round(share * len(units), 6)))
            of_rest = None if labels is None else labels[rest]
            rest, parts[name] = _draw(rest, size, of_rest, params.seed, name)
    parts[TRAIN] = rest
    return _build_split(units, parts, records)


def _build_split(
    units: Sequence[Sequence[int]],
    parts: Mapping[str, npt.NDArray[np.intp]],
    records: pd.DataFrame,
) -> Split:
    """Converts drawn units to rows, without rows that have no record."""
    is_record = set(records.index)
    split = Split(
        **{
            name: tuple(row for unit in drawn for row in units[unit] if row in is_record)
            for name, drawn in parts.items()
        }
    )
    for name in parts:
        if name not in split.parts:
            raise SplitError(
                f"split: the part {name!r} has none of the {len(records)} records. Expected at "
                "least one. Add images, or change the shares of split in params.yaml."
            )
    return split


def _find_units(
    records: pd.DataFrame, annotated: Sequence[int], params: SplitParams
) -> list[list[int]]:
    """Lists the units of the draw: single rows, or the rows of each group."""
    if params.method == "random":
        return [[row] for row in annotated]
    if params.method == "stratified":
        return [[row] for row in records.index]
    groups = find_groups(records, params.group_by)
    if groups.is_unique:
        raise SplitError(
            f"split: no two of {len(records)} rows are in the same group. Expected equal values, "
            f"or equal matches of the pattern, in the column {params.group_by.column!r}. Received: "
            f"{_find_column(records, params.group_by).iloc[0]!r} in the first row. Correct "
            "split.group_by in params.yaml, or choose another split.method."
        )
    return [list(rows) for rows in records.groupby(groups, sort=False).groups.values()]


def _find_column(records: pd.DataFrame, group_by: GroupParams) -> pd.Series:
    """Returns the column of the groups; records have the path of the image as `image`."""
    return records["image" if group_by.column not in records else group_by.column]


def find_groups(records: pd.DataFrame, group_by: GroupParams) -> pd.Series:
    """Returns the group of each record.

    Args:
        records: Checked records.
        group_by: A column and a regular expression to search in it. Rows belong together if the
            capture groups are equal; if the pattern has none, if the whole matches are equal; if
            the pattern is empty, if the values are equal.

    Returns:
        A group name for each row. A row with an empty value or without a match is a group of its
        own.
    """
    pattern = re.compile(group_by.pattern)

    def name(row: int, value: str) -> str:
        if not group_by.pattern and value:
            return value
        match = pattern.search(value)
        found = match and (match.groups() or [match.group()])
        return json.dumps(found) if found and value else f"row {row}"

    values = zip(records.index.tolist(), _find_column(records, group_by), strict=True)
    return pd.Series([name(row, value) for row, value in values], index=records.index)


def _draw(
    units: npt.NDArray[np.intp],
    size: int,
    labels: npt.NDArray[np.float32] | None,
    seed: int,
    part: str,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Draws units for a part; returns the rest and the drawn units."""
    from sklearn.model_selection import train_test_split

    if not 0 < size < len(units):
        raise SplitError(
            f"split: {len(units)} rows or groups cannot be divided: the part {part!r} would get "
            f"{size}. Add images, or change the shares of split in params.yaml."
        )
    if labels is None:
        rest, drawn = train_test_split(units, test_size=size, random_state=seed)
        return rest, drawn
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=size, random_state=seed)
    kept, taken = next(splitter.split(units, labels))
    return units[kept], units[taken]


def check_labels(split: Split, records: pd.DataFrame, heads: Sequence[str]) -> None:
    """Refuses a split in which a head cannot be trained or evaluated.

    Raises:
        SplitError: If a part has no label of a head; label some rows, or remove the head.
    """
    for part, rows in split.parts.items():
        for head in heads:
            if records.loc[list(rows), head].eq("").all():
                raise SplitError(
                    f"split: none of the {len(rows)} rows for {part} has a label of {head}. "
                    f"Label some, change the shares, or remove heads.{head} from params.yaml."
                )


def find_positions(records: pd.DataFrame, rows: Sequence[int]) -> npt.NDArray[np.intp]:
    """Returns the positions of rows in the records, and so in every pack.

    Raises:
        SplitError: If a row is not among the records; run the stage `split` again.
    """
    positions: npt.NDArray[np.intp] = records.index.get_indexer(pd.Index(rows))
    if (positions < 0).any():
        raise SplitError(
            f"split: row {rows[int(np.argmin(positions))]} is not among the {len(records)} "
            "records. Run the stage split again."
        )
    return positions
