"""Pictures of how well a network does, as PNG bytes."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.drawing.figures import GREY, add_panels, new_figure, to_png

if TYPE_CHECKING:
    import keras


def draw_learning_curves(curves: pd.DataFrame, colour: str) -> bytes:
    """Draws loss and mean accuracy of all phases end to end, with their boundaries.

    Args:
        curves: One row an epoch: columns `epoch`, `phase`, `loss`, `val_loss` and so on.
        colour: Of the validation curve.
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
    return to_png(figure)


def _mark_phases(axis: Any, curves: pd.DataFrame) -> None:
    for phase, epoch in curves.groupby("phase", sort=False)["epoch"].min().items():
        axis.axvline(epoch - 0.5, color=GREY, linewidth=0.5, linestyle=":")
        axis.text(epoch - 0.5, 1.01, f" {phase}", transform=axis.get_xaxis_transform(), fontsize=8)


def draw_head_accuracies(heads: pd.DataFrame, colour: str) -> bytes:
    """Draws each head's accuracy with its interval, and the majority class as a mark."""
    figure = new_figure(12, 0.8 + 0.42 * len(heads))
    axis = figure.subplots()
    names, accuracy = list(heads.index), heads["accuracy"].to_numpy()
    bounds = [accuracy - heads["low"].to_numpy(), heads["high"].to_numpy() - accuracy]
    axis.barh(names, accuracy, color=colour, height=0.6)
    axis.errorbar(accuracy, names, xerr=np.maximum(bounds, 0), fmt="none", ecolor="#333", capsize=3)
    axis.plot(heads["majority"], names, "|", color="#d62828", markersize=20, markeredgewidth=2.5)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("accuracy with its interval; red: majority class")
    axis.spines[["top", "right"]].set_visible(False)
    return to_png(figure)


def draw_confusions(
    matrices: Mapping[str, npt.NDArray[np.int64]],
    classes: Mapping[str, Sequence[str]],
    colour: str,
) -> bytes:
    """Draws a confusion matrix for each head: counts, shaded by the share of the true class."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("report", ["#ffffff", colour])
    columns = min(4, len(matrices))
    figure = new_figure(3.3 * columns, 3.3 * math.ceil(len(matrices) / columns))
    axes = add_panels(figure, len(matrices), columns)
    for axis, (head, matrix) in zip(axes, matrices.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap=shades, vmin=0, vmax=1)
        for (true, predicted), count in np.ndenumerate(matrix):
            ink = "white" if shares[true, predicted] > 0.55 else "black"
            axis.text(predicted, true, count, ha="center", va="center", fontsize=8, color=ink)
        short = [name if len(name) <= 14 else f"{name[:13]}…" for name in classes[head]]
        axis.set_xticks(range(len(short)), short, rotation=40, ha="right", fontsize=7)
        axis.set_yticks(range(len(short)), short, fontsize=7)
        axis.set_title(head, fontsize=10)
    axes[0].set_ylabel("true")
    axes[0].set_xlabel("predicted")
    return to_png(figure)


def draw_network(classifier: "keras.Model") -> bytes:
    """Draws the network's layers; the backbone is one box."""
    import keras
    import pygraphviz  # its wheels bring Graphviz along, so nothing need be on the system

    dot = keras.utils.model_to_dot(
        classifier, show_shapes=True, show_layer_names=True, rankdir="TB", dpi=60
    )
    return bytes(pygraphviz.AGraph(string=dot.to_string()).draw(format="png", prog="dot"))
