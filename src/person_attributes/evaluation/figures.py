"""Pictures from arrays; every function returns PNG bytes, the same for the same input."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

_GREY = "#8d99ae"


def _new_figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _add_panels(figure: "Figure", count: int, columns: int) -> list[Any]:
    """Adds a grid of `count` axes; what is left of the last row stays empty."""
    axes = np.atleast_1d(figure.subplots(math.ceil(count / columns), columns)).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return list(axes[:count])


def _to_png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def draw_class_shares(shares: Mapping[str, Mapping[str, float]], colour: str) -> bytes:
    """Draws a bar for each class, a panel for each head."""
    figure = _new_figure(12, 2.2 * math.ceil(len(shares) / 4))
    axes = _add_panels(figure, len(shares), min(4, len(shares)))
    for axis, (head, classes) in zip(axes, shares.items(), strict=True):
        names = list(classes)[::-1]
        bars = axis.barh(names, [classes[name] for name in names], color=colour)
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
        axis.set_title(head, fontsize=10)
        axis.set_xlim(0, 1)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    return _to_png(figure)


def draw_sample_grid(images: npt.NDArray[np.uint8], captions: Sequence[str], columns: int) -> bytes:
    """Draws images with a caption under each."""
    figure = _new_figure(1.9 * columns, 2.5 * math.ceil(len(images) / columns))
    axes = _add_panels(figure, len(images), columns)
    for axis, image, caption in zip(axes, images, captions, strict=True):
        axis.axis("off")
        axis.imshow(image)
        axis.set_title(caption, fontsize=6.5, y=-0.05, va="top")
    return _to_png(figure)


def draw_learning_curves(curves: pd.DataFrame, colour: str) -> bytes:
    """Draws loss and mean accuracy of all phases end to end, with their boundaries.

    Args:
        curves: One row an epoch: columns `epoch`, `phase`, `loss`, `val_loss` and so on.
        colour: Of the validation curve.
    """
    figure = _new_figure(12, 4)
    epochs = curves["epoch"]
    for axis, name in zip(figure.subplots(1, 2), ("loss", "mean_accuracy"), strict=True):
        axis.plot(epochs, curves[name], "o-", markersize=3, color=_GREY, label="training")
        axis.plot(
            epochs, curves[f"val_{name}"], "o-", markersize=3, color=colour, label="validation"
        )
        _mark_phases(axis, curves)
        axis.set_xlabel("epoch")
        axis.set_title(name.replace("_", " "), fontsize=10, pad=16)
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return _to_png(figure)


def _mark_phases(axis: Any, curves: pd.DataFrame) -> None:
    for phase, epoch in curves.groupby("phase", sort=False)["epoch"].min().items():
        axis.axvline(epoch - 0.5, color=_GREY, linewidth=0.5, linestyle=":")
        axis.text(epoch - 0.5, 1.01, f" {phase}", transform=axis.get_xaxis_transform(), fontsize=8)


def draw_head_accuracies(heads: pd.DataFrame, colour: str) -> bytes:
    """Draws each head's accuracy with its interval, and the majority class as a mark."""
    figure = _new_figure(12, 0.8 + 0.42 * len(heads))
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
    return _to_png(figure)


def draw_confusions(
    matrices: Mapping[str, npt.NDArray[np.int64]],
    classes: Mapping[str, Sequence[str]],
    colour: str,
) -> bytes:
    """Draws a confusion matrix for each head: counts, shaded by the share of the true class."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("report", ["#ffffff", colour])
    columns = min(4, len(matrices))
    figure = _new_figure(3.3 * columns, 3.3 * math.ceil(len(matrices) / columns))
    axes = _add_panels(figure, len(matrices), columns)
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
    return _to_png(figure)


def draw_network(classifier: "keras.Model") -> bytes:
    """Draws the network's layers; the backbone is one box."""
    import keras
    import pygraphviz  # its wheels bring Graphviz along, so nothing need be on the system

    dot = keras.utils.model_to_dot(
        classifier, show_shapes=True, show_layer_names=True, rankdir="TB", dpi=60
    )
    return bytes(pygraphviz.AGraph(string=dot.to_string()).draw(format="png", prog="dot"))


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encodes one RGB image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
