"""Plots of an evaluation, as SVG for light and dark pages."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from person_attributes.drawing.figures import GREY, INK, add_panels, new_figure, shorten, to_svg
from person_attributes.evaluation.calibration_error import bin_rows
from person_attributes.evaluation.metrics import OneHot

_RED = "#e5484d"
_SIDES = {10: 3.3, 20: 6.6}
"""Side of a confusion matrix in inches, by its largest number of classes."""

_LARGEST_SIDE = 13.2
"""Side of larger confusion matrices, and the width of all matrices side by side, in inches."""

_TITLE = 0.3
"""Additional height of a row of confusion matrices in inches."""

_NUMBERED_CLASSES = 40
"""Maximum number of classes of a confusion matrix in which counts and all names are legible."""

_HEAT = 0.55
"""Minimum opacity of the heat map over its image."""


def draw_learning_curves(curves: pd.DataFrame, colour: str) -> str:
    """Draws loss and mean accuracy over the epochs of all phases, with the phase boundaries.

    Args:
        curves: One row per epoch: `epoch`, `phase`, `loss`, `mean_accuracy`, `val_loss` and
            `val_mean_accuracy`.
        colour: Colour of the validation curves, `#rrggbb`.
    """
    figure = new_figure(12, 4)
    epochs = curves["epoch"]
    for axis, name in zip(figure.subplots(1, 2), ("loss", "mean_accuracy"), strict=True):
        axis.plot(epochs, curves[name], "o-", markersize=3, color=GREY, label="training")
        axis.plot(
            epochs, curves[f"val_{name}"], "o-", markersize=3, color=colour, label="validation"
        )
        _mark_phases(axis, curves)
        axis.set_xlabel("epoch")
        axis.set_title(name.replace("_", " "), fontsize=10, pad=16)
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return to_svg(figure)


def _mark_phases(axis: Any, curves: pd.DataFrame) -> None:
    for phase, epoch in curves.groupby("phase", sort=False)["epoch"].min().items():
        axis.axvline(epoch - 0.5, color=GREY, linewidth=0.5, linestyle=":")
        axis.text(epoch - 0.5, 1.01, f" {phase}", transform=axis.get_xaxis_transform(), fontsize=8)


def draw_head_accuracies(heads: pd.DataFrame, colour: str) -> str:
    """Draws the accuracy of each head with its interval and its majority-class baseline."""
    figure = new_figure(12, 0.8 + 0.42 * len(heads))
    axis = figure.subplots()
    _draw_bars(axis, list(heads.index), heads, "accuracy", colour)
    axis.plot(heads["majority"], range(len(heads)), "|", color=_RED, ms=20, mew=2.5)
    axis.set_xlabel("accuracy with interval; red: majority-class baseline")
    return to_svg(figure)


def draw_class_recalls(classes: pd.DataFrame, colour: str) -> str:
    """Draws the recall of each class with its interval, and its precision."""
    heads = list(classes["head"].unique())
    columns = min(4, len(heads))
    tallest = classes.groupby("head").size().max()
    figure = new_figure(12, math.ceil(len(heads) / columns) * (0.7 + 0.32 * tallest))
    for axis, head in zip(add_panels(figure, len(heads), columns), heads, strict=True):
        rows = classes[classes["head"] == head]
        names = [
            f"{shorten(name)} ({count})"
            for name, count in zip(rows["class"], rows["rows"], strict=True)
        ]
        _draw_bars(axis, names, rows, "recall", colour)
        axis.plot(rows["precision"], range(len(rows)), "|", color=_RED, ms=12, mew=2)
        axis.set_title(head, fontsize=10)
        axis.tick_params(labelsize=7)
    figure.supxlabel(
        "recall with interval (number of rows in brackets); red: precision", fontsize=8
    )
    return to_svg(figure)


def _draw_bars(
    axis: Any, names: Sequence[str], table: pd.DataFrame, metric: str, colour: str
) -> None:
    values = table[metric].to_numpy(float)
    bounds = [values - table[f"{metric}_low"], table[f"{metric}_high"] - values]
    places = range(len(names))  # shortened names may be equal
    axis.barh(places, np.nan_to_num(values), color=colour, height=0.6)
    axis.errorbar(
        values, places, xerr=np.maximum(np.nan_to_num(bounds), 0), fmt="none", ecolor=INK, capsize=3
    )
    axis.set_yticks(places, names)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.spines[["top", "right"]].set_visible(False)


def draw_reliability(
    y_true: OneHot, y_prob: OneHot, calibrated: OneHot, bins: int, colour: str
) -> str:
    """Draws a reliability diagram per head, before and after temperature scaling.

    Accuracy is plotted against confidence. Below the diagonal the network is overconfident. Each
    dot is a bin of the expected calibration error; all bins have the same number of rows.
    """
    columns = min(4, len(y_true))
    figure = new_figure(12, 2.9 * math.ceil(len(y_true) / columns))
    for axis, head in zip(add_panels(figure, len(y_true), columns), y_true, strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        _draw_bins(axis, y_true[head], y_prob[head], bins, GREY, "uncalibrated")
        _draw_bins(axis, y_true[head], calibrated[head], bins, colour, "calibrated")
        axis.set_title(head, fontsize=10)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        axis.set_aspect("equal")
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    figure.supxlabel("confidence", fontsize=8)
    figure.supylabel("accuracy", fontsize=8)
    return to_svg(figure)


def _draw_bins(
    axis: Any,
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    bins: int,
    colour: str,
    label: str,
) -> None:
    """Draws mean accuracy against mean confidence of each bin."""
    labelled = y_true.any(axis=1)
    if not labelled.any():
        return
    confidences = y_prob[labelled].max(axis=1).astype(np.float64)
    is_right = (y_true.argmax(axis=1) == y_prob.argmax(axis=1))[labelled]
    rows_of_bins = bin_rows(confidences, bins)
    confidence = [confidences[rows].mean() for rows in rows_of_bins]
    accuracy = [is_right[rows].mean() for rows in rows_of_bins]
    axis.plot(confidence, accuracy, ".-", color=colour, linewidth=1, label=label)


def draw_confusions(
    matrices: Mapping[str, npt.NDArray[np.float64]],
    classes: Mapping[str, Sequence[str]],
    colour: str,
) -> str:
    """Draws a confusion matrix per head: counts, shaded by the fraction of the true class.

    Heads with few classes come first, several side by side.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    shades = LinearSegmentedColormap.from_list("report", [to_rgba(colour, 0), to_rgba(colour, 1)])
    blocks: dict[float, list[str]] = {}
    for head, names in sorted(classes.items(), key=lambda item: _choose_side(len(item[1]))):
        blocks.setdefault(_choose_side(len(names)), []).append(head)
    width = max(min(side * len(heads), _LARGEST_SIDE) for side, heads in blocks.items())
    columns = {side: round(width / side) for side in blocks}
    heights = [
        math.ceil(len(heads) / columns[side]) * (side + _TITLE) for side, heads in blocks.items()
    ]
    figure = new_figure(width, sum(heights))
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (side, heads) in zip(parts, blocks.items(), strict=True):
        axes = add_panels(part, len(heads), columns[side])
        for axis, head in zip(axes, heads, strict=True):
            _draw_matrix(axis, matrices[head], classes[head], shades)
            axis.set_title(head, fontsize=10)
        axes[0].set_ylabel("true")
        axes[0].set_xlabel("predicted")
    return to_svg(figure)


def _choose_side(classes: int) -> float:
    return next((side for limit, side in _SIDES.items() if classes <= limit), _LARGEST_SIDE)


def _draw_matrix(
    axis: Any, matrix: npt.NDArray[np.float64], names: Sequence[str], shades: Any
) -> None:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap=shades, vmin=0, vmax=1)
    if len(names) <= _NUMBERED_CLASSES:
        for (true, predicted), count in np.ndenumerate(matrix):
            ink = "white" if shares[true, predicted] > 0.55 else INK
            axis.text(
                predicted, true, f"{count:.0f}", ha="center", va="center", fontsize=8, color=ink
            )
    # Names of neighbours would overlap.
    places = range(0, len(names), math.ceil(len(names) / _NUMBERED_CLASSES))
    short = [shorten(names[place]) for place in places]
    axis.set_xticks(places, short, rotation=40, ha="right", fontsize=7)
    axis.set_yticks(places, short, fontsize=7)


def overlay_heatmap(
    image: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Overlays a heat map, (rows, columns) in [0, 1], on the image in grey.

    Returns:
        An image of the same size.
    """
    from matplotlib import colormaps

    height, width = image.shape[:2]
    stretched = Image.fromarray((255 * heat).astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    strength = np.asarray(stretched, np.float32)[..., None] / 255
    colours = 255 * colormaps["inferno"](strength[..., 0])[..., :3]
    grey = image.mean(axis=2, keepdims=True)
    cover = _HEAT + (1 - _HEAT) * strength / 2
    mixed: npt.NDArray[np.uint8] = (cover * colours + (1 - cover) * grey).astype(np.uint8)
    return mixed
