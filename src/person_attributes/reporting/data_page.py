"""The dataset page: a self-contained HTML page of class shares, examples and data faults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from person_attributes.config import InspectionParams
from person_attributes.data import associations
from person_attributes.data.images import Images
from person_attributes.data.split import Split, find_positions
from person_attributes.drawing.page import render_page
from person_attributes.labels import LabelMap
from person_attributes.reporting import data_plots

_STRIP_HEIGHT = 128
"""Maximum height of the images in a strip, in pixels."""

_NARROW_RANGE = 1 / 8
"""Range of grey levels below which an image is reported; a clear photograph uses all of it."""

_GAP = 3
"""White space between the images of a strip, in pixels."""


@dataclass(frozen=True)
class Strip:
    """Images side by side in one picture, with a title and a note that lists their rows."""

    title: str
    note: str
    picture: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Duplicates:
    """A pair of near-duplicate images with their labels.

    Attributes:
        pair: A row of the table of near-duplicates.
        labels: `(head, label of the first, label of the second)`.
        picture: Both images side by side.
    """

    pair: Any
    labels: list[tuple[str, str, str]]
    picture: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Data:
    """Data that the page describes.

    Attributes:
        records: Checked records.
        quarantine: Rejected rows with their faults.
        appearances: Brightness, range of grey levels and sharpness of each record.
        near_duplicates: Table of `describe_pairs`.
        split: Rows of each part.
        images: The pack, in the order of the records.
        label_map: Heads and classes.
    """

    records: pd.DataFrame
    quarantine: pd.DataFrame
    appearances: pd.DataFrame
    near_duplicates: pd.DataFrame
    split: Split
    images: Images
    label_map: LabelMap


def render_data_page(
    data: Data,
    shares: Mapping[str, Mapping[str, Mapping[str, float]]],
    params: InspectionParams,
    colour: str,
    seed: int,
) -> str:
    """Renders the dataset page as HTML without external resources.

    Args:
        data: Data to describe.
        shares: `{part: {head: {class: share}}}`.
        params: Number of items to show in each section.
        colour: Accent colour, `#rrggbb`.
        seed: Random seed of the choice of example images.
    """
    heads, classes = list(data.label_map.heads), data.label_map.classes
    names = [(head, name) for head in heads for name in classes[head]]
    targets = data.label_map.encode(data.records)
    parts = {part: data.appearances.loc[list(rows)] for part, rows in data.split.parts.items()}
    unusual = associations.find_unusual_pairs(targets, data.label_map, params.unusual_pairs)
    shown_pairs = data.near_duplicates.head(params.near_duplicates)
    return render_page(
        Path(__file__).parent / "data_page.html.jinja",
        colour=colour,
        data=data,
        missing=(data.records[heads] == "").sum().to_dict(),
        share_figure=data_plots.draw_part_shares(shares, colour),
        association_figure=data_plots.draw_associations(*associations.count_pairs(targets), names),
        distribution_figure=data_plots.draw_distributions(parts, colour),
        unusual=[_show_unusual(data, pair, params.images) for pair in unusual],
        extremes=_show_extremes(data, params.images),
        narrow=_show_narrow(data, params.images),
        classes=_show_classes(data, targets, params.images, seed),
        faults=_list_faults(data.quarantine, params.faults),
        duplicates=[_show_duplicates(data, pair) for pair in shown_pairs.itertuples()],
        agreement=associations.compare_labels(data.records, data.near_duplicates, heads),
    )


def _join_images(images: Images, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Draws images side by side."""
    height = min(images.shape[1], _STRIP_HEIGHT)
    width = round(images.shape[2] * height / images.shape[1])
    strip = np.full((height, len(positions) * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for place, position in enumerate(positions):
        start = place * (width + _GAP)
        image = Image.fromarray(np.asarray(images[position]))
        strip[:, start : start + width] = image.resize((width, height), Image.Resampling.BOX)
    return strip


def _name_rows(data: Data, positions: Sequence[int]) -> str:
    return ", ".join(str(data.records.index[position]) for position in positions)


def _show_unusual(data: Data, pair: associations.UnusualPair, count: int) -> Strip:
    shown = pair.positions[:count].tolist()
    return Strip(
        f"{pair.first[0]} {pair.first[1]} with {pair.second[0]} {pair.second[1]}",
        f"{pair.count} rows, {pair.expected:.0f} expected; rows {_name_rows(data, shown)}",
        _join_images(data.images, shown),
    )


def _show_extremes(data: Data, count: int) -> list[Strip]:
    strips = []
    for column, low, high in (
        ("brightness", "Darkest", "Brightest"),
        ("sharpness", "Most blurred", "Sharpest"),
    ):
        order = np.argsort(data.appearances[column].to_numpy(), kind="stable")
        for title, chosen in ((low, order[:count]), (high, order[::-1][:count])):
            values = data.appearances[column].iloc[[chosen[0], chosen[-1]]]
            note = f"{column} {values.iloc[0]:.3g} to {values.iloc[1]:.3g}; rows "
            positions = chosen.tolist()
            strips.append(
                Strip(
                    title, note + _name_rows(data, positions), _join_images(data.images, positions)
                )
            )
    return strips


def _show_narrow(data: Data, count: int) -> Strip | None:
    """Shows images that use few grey levels; None if there are none."""
    ranges = data.appearances["grey_range"].to_numpy()
    positions = np.flatnonzero(ranges < _NARROW_RANGE)
    if not len(positions):
        return None
    shown = positions[np.argsort(ranges[positions], kind="stable")][:count].tolist()
    return Strip(
        f"{len(positions):,} of {len(ranges):,} images use less than 1/8 of the grey levels",
        f"rows {_name_rows(data, shown)}",
        _join_images(data.images, shown),
    )


def _show_classes(
    data: Data, targets: Mapping[str, npt.NDArray[np.float32]], count: int, seed: int
) -> dict[str, list[Strip]]:
    """Shows a random sample of the images of each class."""
    random = np.random.default_rng(seed)
    strips: dict[str, list[Strip]] = {}
    for head, target in targets.items():
        strips[head] = []
        for number, name in enumerate(data.label_map.classes[head]):
            members = np.flatnonzero(target[:, number])
            if len(members):
                drawn = random.permutation(members)[:count].tolist()
                note = f"{len(members)} records; rows {_name_rows(data, drawn)}"
                strips[head].append(Strip(name, note, _join_images(data.images, drawn)))
            else:
                blank = np.full((2, 2, 3), 255, np.uint8)
                strips[head].append(Strip(name, "no records", blank))
    return strips


def _list_faults(quarantine: pd.DataFrame, count: int) -> dict[str, tuple[int, pd.DataFrame]]:
    """Returns the number of rows and the first rows of each kind of fault."""
    return {
        str(kind): (len(rows), rows.head(count))
        for kind, rows in quarantine.groupby("kind", sort=False)
    }


def _show_duplicates(data: Data, pair: Any) -> Duplicates:
    positions = find_positions(data.records, (pair.first, pair.second)).tolist()
    first, second = (data.records.loc[row] for row in (pair.first, pair.second))
    labels = [(head, first[head], second[head]) for head in data.label_map.heads]
    return Duplicates(pair, labels, _join_images(data.images, positions))
