"""Which rows train and which validate: drawn once, written with a digest, never drawn anew."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.errors import SplitError


@dataclass(frozen=True)
class Split:
    """Row numbers of each part; they do not overlap.

    Attributes:
        train: Rows that training may read.
        validation: Rows that no training reads.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]

    def __post_init__(self) -> None:
        leaked = set(self.train) & set(self.validation)
        if leaked:
            raise SplitError(
                f"split: row {min(leaked)} is in both parts ({len(leaked)} such rows). Expected no "
                "row to train and validate. Run the stage split again."
            )

    @property
    def digest(self) -> str:
        """Names this split: the same rows in the same order give the same digest."""
        return digest_rows(self.train) + digest_rows(self.validation)

    @property
    def validation_digest(self) -> str:
        """Names the validation rows alone: scores are comparable where it is equal."""
        return digest_rows(self.validation)

    def write(self, path: Path) -> None:
        """Writes the rows and their digest as JSON."""
        content = {
            "version": 1,
            "digest": self.digest,
            "train": list(self.train),
            "validation": list(self.validation),
        }
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Split":
        """Reads a split.

        Raises:
            SplitError: If the file was changed since `write` wrote it; run the stage split again.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            split = cls(train=tuple(content["train"]), validation=tuple(content["validation"]))
            digest = content["digest"]
        except (ValueError, KeyError, TypeError):
            raise SplitError(
                f"{path.name}: not a split. Expected JSON with train, validation and digest. "
                "Run the stage split again."
            ) from None
        if split.digest != digest:
            raise SplitError(
                f"{path.name}: its rows do not fit its digest. Expected {digest}. "
                f"Received: {split.digest}. The file was edited: run the stage split again."
            )
        return split


def digest_rows(rows: Sequence[int]) -> str:
    """Digests row numbers, in their order, as 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()[:16]


def split_records(records: pd.DataFrame, validation_share: float, seed: int) -> Split:
    """Draws validation rows at random, exactly as the article did.

    Args:
        records: Checked records, indexed by row number.
        validation_share: Share of the rows to validate on, rounded up.
        seed: 42 and a share of .15 give the article's 11,537 and 2,036 of 13,573 rows.

    Returns:
        The rows of both parts.

    Raises:
        SplitError: If there are too few records to have rows in both parts.
    """
    from sklearn.model_selection import train_test_split

    try:
        train, validation = train_test_split(
            records.index.to_numpy(), test_size=validation_share, random_state=seed
        )
    except ValueError as error:
        raise SplitError(
            f"split: {len(records)} records cannot be divided: {error} Add images or change "
            "split.validation_share in params.yaml."
        ) from None
    return Split(train=tuple(train.tolist()), validation=tuple(validation.tolist()))


def find_positions(records: pd.DataFrame, rows: Sequence[int]) -> npt.NDArray[np.intp]:
    """Finds where rows lie in the records, and so in every pack.

    Raises:
        SplitError: If a row is no record; the split is older than the records: run it again.
    """
    positions: npt.NDArray[np.intp] = records.index.get_indexer(pd.Index(rows))
    if (positions < 0).any():
        raise SplitError(
            f"split: row {rows[int(np.argmin(positions))]} is not among the {len(records)} "
            "records. Run the stage split again."
        )
    return positions
