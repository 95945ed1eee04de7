"""The dataset of a project: aligned records, targets, split and images."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.data.images import Images
from person_attributes.data.packs import open_pack
from person_attributes.data.records import read_records
from person_attributes.data.split import Split, find_positions
from person_attributes.labels import LabelMap
from person_attributes.workspace import Workspace


@dataclass(frozen=True)
class Part:
    """The rows of one part of the split.

    Attributes:
        rows: Row numbers.
        positions: Positions of the rows in records, targets and images.
        targets: `{head: (n, classes)}` of these rows.
    """

    rows: tuple[int, ...]
    positions: npt.NDArray[np.intp]
    targets: dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Dataset:
    """The data that stages after `pack` read; each file is read on first access.

    Attributes:
        workspace: The project.
        image_size: Size of the images, as in `params.yaml`.
    """

    workspace: Workspace
    image_size: int | str

    @cached_property
    def records(self) -> pd.DataFrame:
        """Checked records, indexed by row number."""
        return read_records(self.workspace.records)

    @cached_property
    def label_map(self) -> LabelMap:
        """Heads and classes."""
        return LabelMap.read(self.workspace.label_map)

    @cached_property
    def targets(self) -> dict[str, npt.NDArray[np.float32]]:
        """One-hot labels, `{head: (n, classes)}`, in the order of the records.

        A missing label is all zeros.
        """
        one_hot = pd.read_csv(self.workspace.one_hot, index_col="row").to_numpy(np.float32)
        class_counts = self.label_map.class_counts
        parts = np.split(one_hot, np.cumsum(list(class_counts.values()))[:-1], axis=1)
        return dict(zip(class_counts, parts, strict=True))

    @cached_property
    def split(self) -> Split:
        """The row numbers of each part."""
        return Split.read(self.workspace.split)

    @cached_property
    def images(self) -> Images:
        """The images of this size, in the order of the records."""
        return open_pack(self.workspace.pack(self.image_size))

    def find(self, rows: tuple[int, ...]) -> npt.NDArray[np.intp]:
        """Returns the positions of rows in the records.

        Raises:
            SplitError: If a row is not among the records; run the stage `split` again.
        """
        return find_positions(self.records, rows)

    def part(self, name: str) -> Part:
        """Returns a part of the split; without rows if the split has no such part."""
        return self.select(self.split.parts.get(name, ()))

    def select(self, rows: tuple[int, ...]) -> Part:
        """Returns the given rows, in their order."""
        positions = self.find(rows)
        targets = {head: target[positions] for head, target in self.targets.items()}
        return Part(rows, positions, targets)
