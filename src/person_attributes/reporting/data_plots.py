"""Plots of the dataset, as SVG for light and dark pages."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.drawing.figures import GREY, INK, add_panels, new_figure, shorten, to_svg

_PART_COLOURS = {"validation": GREY, "test": "#e09f3e"}
"""Training rows have the accent colour of the report."""

_LARGEST_MAP = 24.0
"""Maximum side length of the heat map in inches."""

_NUMBERED_CLASSES = 60
"""Maximum number of classes for which counts are printed; smaller cells are illegible."""

_LONGEST_NAME = 24
"""Characters of the name of a class; longer ones are shortened."""

_LIFT_LIMIT = 3.0
"""Absolute base-2 logarithm of the lift at which the colour scale saturates."""


def draw_part_shares(shares: Mapping[str, Mapping[str, Mapping[str, float]]], colour: str) -> str:
    """Draws the class shares of each part of the split, one panel per head.

    Args:
        shares: `{part: {head: {class: share}}}`.
        colour: Colour of the training rows, `#rrggbb`.
    """
    heads = list(next(iter(shares.values())))
    figure = new_figure(12, 2.6 * math.ceil(len(heads) / 4))
    axes = add_panels(figure, len(heads), min(4, len(heads)))
    height = 0.8 / len(shares)
    for axis, head in zip(axes, heads, strict=True):
        for number, (part, by_head) in enumerate(shares.items()):
            names = [shorten(name, _LONGEST_NAME) for name in by_head[head]]
            places = np.arange(len(names)) + number * height
            bars = axis.barh(
                places,
                list(by_head[head].values()),
                height,
                label=part,
                color=_PART_COLOURS.get(part, colour),
            )
            axis.bar_label(bars, fmt="%.3f", padding=2, fontsize=6)
        axis.set_yticks(np.arange(len(names)) + (len(shares) - 1) * height / 2, names, fontsize=7)
        axis.invert_yaxis()
        axis.set_title(head, fontsize=10)
        axis.set_xlim(0, 1.08)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper right", ncols=len(shares), frameon=False, fontsize=8
    )
    return to_svg(figure)


def draw_associations(
    counts: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
    names: Sequence[tuple[str, str]],
) -> str:
    """Draws the lift of each pair of classes: observed rows divided by expected rows.

    Args:
        counts: (classes, classes) number of rows with both classes; NaN within a head.
        expected: (classes, classes) expected number if the heads were independent.
        names: Head and class of each row and column.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = np.clip(np.log2(counts / expected), -_LIFT_LIMIT, _LIFT_LIMIT)
    size = min(max(5.0, 0.38 * len(names)), _LARGEST_MAP)
    figure = new_figure(size + 1.5, size)
    axis = figure.subplots()
    image = axis.imshow(lift, cmap="RdBu_r", vmin=-_LIFT_LIMIT, vmax=_LIFT_LIMIT)
    for (row, column), count in np.ndenumerate(counts):
        if np.isfinite(count) and len(names) <= _NUMBERED_CLASSES:
            ink = "white" if abs(lift[row, column]) > 0.6 * _LIFT_LIMIT else "black"
            axis.text(
                column, row, f"{count:.0f}", ha="center", va="center", fontsize=5.5, color=ink
            )
    labels = [shorten(f"{head}: {name}", 2 * _LONGEST_NAME) for head, name in names]
    axis.set_xticks(range(len(names)), labels, rotation=60, ha="right", fontsize=7)
    axis.set_yticks(range(len(names)), labels, fontsize=7)
    for place in range(1, len(names)):
        if names[place][0] != names[place - 1][0]:
            axis.axhline(place - 0.5, color=INK, linewidth=0.8)
            axis.axvline(place - 0.5, color=INK, linewidth=0.8)
    bar = figure.colorbar(image, shrink=0.6)
    bar.set_ticks([-3, -2, -1, 0, 1, 2, 3], labels=["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    bar.set_label("lift: observed / expected if independent", fontsize=8)
    return to_svg(figure)


def draw_distributions(appearances: Mapping[str, pd.DataFrame], colour: str) -> str:
    """Draws histograms of brightness and sharpness for each part of the split.

    Args:
        appearances: `{part: table}` with the columns `brightness` and `sharpness`.
        colour: Colour of the training rows, `#rrggbb`.
    """
    figure = new_figure(12, 3)
    combined = pd.concat(appearances.values())
    for axis, column in zip(figure.subplots(1, 2), ("brightness", "sharpness"), strict=True):
        edges = np.histogram_bin_edges(_scale(combined, column), bins=40)
        for part, table in appearances.items():
            axis.hist(
                _scale(table, column),
                edges,
                density=True,
                histtype="stepfilled" if part == "train" else "step",
                alpha=0.6 if part == "train" else 1,
                linewidth=1.5,
                color=_PART_COLOURS.get(part, colour),
                label=part,
            )
        axis.set_yticks([])
        axis.spines[["top", "right", "left"]].set_visible(False)
    first, second = figure.axes
    first.set_xlabel("brightness (mean grey level)")
    second.set_xlabel("sharpness (log10 of the variance of the Laplacian)")
    first.legend(frameon=False, fontsize=8)
    return to_svg(figure)


def _scale(appearances: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """Returns the plotted values of a column; sharpness is on a log10 scale."""
    values = appearances[column].to_numpy(np.float64)
    return np.log10(np.maximum(values, 0.01)) if column == "sharpness" else values
