"""One self-contained page about the data, for people: what is in it, and what is wrong with it."""

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
"""Pixels; larger images are shrunk to it."""

_GAP = 3
"""White pixels between the images of a strip."""


@dataclass(frozen=True)
class Strip:
    """Images side by side: what they share, which rows they are, and the picture."""

    title: str
    note: str
    picture: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Duplicates:
    """Two images that show nearly the same, with their labels.

    Attributes:
        pair: A row of the near-duplicates' table.
        labels: `(head, label of the first, label of the second)`.
        picture: Both images.
    """

    pair: Any
    labels: list[tuple[str, str, str]]
    picture: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Data:
    """Everything that the page speaks of.

    Attributes:
        records: Checked records.
        quarantine: Rows left out.
        appearances: A row for each record.
        near_duplicates: As `describe_pairs` gives them.
        split: The parts.
        images: The pack, aligned with the records.
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
    """Renders the page.

    Args:
        data: What it speaks of.
        shares: `{part: {head: {class: share}}}`.
        params: How much of everything to show.
        colour: Accent colour, `#rrggbb`.
        seed: Chooses the images of each class.

    Returns:
        HTML that asks for nothing outside itself.
    """
    heads = list(data.label_map.heads)
    targets = data.label_map.encode(data.records)
    names = [(head, name) for head in heads for name in data.label_map.classes[head]]
    parts = {part: data.appearances.loc[list(rows)] for part, rows in data.split.parts.items()}
    unusual = associations.find_unusual_pairs(targets, data.label_map, params.unusual_pairs)
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
        classes=_show_classes(data, targets, params.images, seed),
        faults=_list_faults(data.quarantine, params.faults),
        duplicates=[
            _show_duplicates(data, pair)
            for pair in data.near_duplicates.head(params.near_duplicates).itertuples()
        ],
        agreement=associations.compare_labels(data.records, data.near_duplicates, heads),
    )


def _join(images: Images, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Puts images side by side."""
    size = min(images.shape[1], _STRIP_HEIGHT)
    strip = np.full((size, len(positions) * (size + _GAP) - _GAP, 3), 255, np.uint8)
    for place, position in enumerate(positions):
        start = place * (size + _GAP)
        image = Image.fromarray(np.asarray(images[position]))
        strip[:, start : start + size] = image.resize((size, size), Image.Resampling.BOX)
    return strip


def _name_rows(data: Data, positions: Sequence[int]) -> str:
    return ", ".join(str(data.records.index[position]) for position in positions)


def _show_unusual(data: Data, pair: associations.UnusualPair, count: int) -> Strip:
    shown = pair.positions[:count].tolist()
    return Strip(
        f"{pair.first[0]} {pair.first[1]} with {pair.second[0]} {pair.second[1]}",
        f"{pair.count} rows, {pair.expected:.0f} by chance; rows {_name_rows(data, shown)}",
        _join(data.images, shown),
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
                Strip(title, note + _name_rows(data, positions), _join(data.images, positions))
            )
    return strips


def _show_classes(
    data: Data, targets: Mapping[str, npt.NDArray[np.float32]], count: int, seed: int
) -> dict[str, list[Strip]]:
    """Draws some images of each class at random."""
    random = np.random.default_rng(seed)
    strips: dict[str, list[Strip]] = {}
    for head, target in targets.items():
        strips[head] = []
        for number, name in enumerate(data.label_map.classes[head]):
            members = np.flatnonzero(target[:, number])
            if len(members):
                drawn = random.permutation(members)[:count].tolist()
                note = f"{len(members)} records; rows {_name_rows(data, drawn)}"
                strips[head].append(Strip(name, note, _join(data.images, drawn)))
            else:
                nothing = np.full((2, 2, 3), 255, np.uint8)
                strips[head].append(Strip(name, "no record", nothing))
    return strips


def _list_faults(quarantine: pd.DataFrame, count: int) -> dict[str, tuple[int, pd.DataFrame]]:
    """Gives, for each kind, how many rows have it, and the first of them."""
    return {
        str(kind): (len(rows), rows.head(count))
        for kind, rows in quarantine.groupby("kind", sort=False)
    }


def _show_duplicates(data: Data, pair: Any) -> Duplicates:
    positions = find_positions(data.records, (pair.first, pair.second)).tolist()
    first, second = (data.records.loc[row] for row in (pair.first, pair.second))
    labels = [(head, first[head], second[head]) for head in data.label_map.heads]
    return Duplicates(pair, labels, _join(data.images, positions))
