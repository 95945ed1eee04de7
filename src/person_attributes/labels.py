"""Heads, their classes, and the conversion between class names and one-hot columns."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:  # the served model runs without pydantic
    from person_attributes.config import HeadParams


@dataclass(frozen=True)
class LabelMap:
    """The classes of each head, in output order.

    Attributes:
        classes: `{head: class names}`; the order is the order of the network's outputs.
        columns: `{head: column of the annotations}`.
    """

    classes: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, str]

    @classmethod
    def declare(cls, heads: Mapping[str, "HeadParams"]) -> "LabelMap":
        """Creates the label map of the heads in `params.yaml`."""
        return cls(
            classes={name: head.classes for name, head in heads.items()},
            columns={name: head.column for name, head in heads.items()},
        )

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(self.classes)

    @property
    def class_counts(self) -> dict[str, int]:
        return {head: len(names) for head, names in self.classes.items()}

    @property
    def one_hot_columns(self) -> tuple[str, ...]:
        """Column names in the style of `pandas.get_dummies`, such as `gender_female`."""
        return tuple(
            f"{self.columns[head]}_{name}" for head in self.heads for name in self.classes[head]
        )

    def encode(self, labels: pd.DataFrame) -> dict[str, npt.NDArray[np.float32]]:
        """One-hot encodes label columns.

        Args:
            labels: One column of class names for each head; an empty cell is a missing label.

        Returns:
            `{head: (n, number of classes) float32}` of 0 and 1; a missing label is all zeros.
        """
        return {
            head: (labels[head].to_numpy()[:, None] == np.array(names, dtype=object)).astype(
                np.float32
            )
            for head, names in self.classes.items()
        }

    def decode(self, y_prob: Mapping[str, npt.NDArray[np.float32]]) -> pd.DataFrame:
        """Returns the most probable class of each head.

        Args:
            y_prob: `{head: (n, number of classes)}` of probabilities or one-hot labels.

        Returns:
            n rows with one column of class names for each head; empty where all values are zero.
        """
        return pd.DataFrame(
            {
                head: np.where(
                    y_prob[head].any(axis=1),
                    np.array(self.classes[head])[y_prob[head].argmax(axis=1)],
                    "",
                )
                for head in self.heads
            }
        )

    def without(self, heads: Collection[str]) -> "LabelMap":
        """Returns the label map without some heads."""
        return LabelMap(
            {head: names for head, names in self.classes.items() if head not in heads},
            {head: column for head, column in self.columns.items() if head not in heads},
        )

    def class_shares(self, labels: pd.DataFrame) -> dict[str, dict[str, float]]:
        """Computes each class's share of the labels of its head: `{head: {class: share}}`."""
        return {
            head: {
                name: float((labels[head] == name).sum() / max((labels[head] != "").sum(), 1))
                for name in names
            }
            for head, names in self.classes.items()
        }

    def write(self, path: Path) -> None:
        """Writes the map as JSON."""
        content = {
            head: {"column": self.columns[head], "classes": list(self.classes[head])}
            for head in self.heads
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "LabelMap":
        """Reads a map written by `write`."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            classes={head: tuple(entry["classes"]) for head, entry in content.items()},
            columns={head: entry["column"] for head, entry in content.items()},
        )
