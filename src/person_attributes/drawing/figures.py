"""Pictures from arrays; every function returns the same bytes for the same input."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#8d99ae"

INK = "#010203"
"""Of text and lines; in pages it becomes the page's own, light or dark."""

_STYLE: Any = {
    "text.parse_math": False,  # class names may hold dollars
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "person-attributes",
}


def new_figure(width: float, height: float) -> "Figure":
    """Makes an empty figure of a size in inches."""
    from matplotlib import style
    from matplotlib.figure import Figure

    style.use(["default", _STYLE])  # whatever this machine's matplotlibrc says
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def add_panels(figure: "Figure", count: int, columns: int) -> list[Any]:
    """Adds a grid of `count` axes; what is left of the last row stays empty."""
    axes = np.atleast_1d(figure.subplots(math.ceil(count / columns), columns)).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return list(axes[:count])


def to_png(figure: "Figure") -> bytes:
    """Encodes a figure, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: "Figure") -> str:
    """Writes a figure for pages, the same text for the same figure; it takes on their ink."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub("<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def draw_class_shares(shares: Mapping[str, Mapping[str, float]], colour: str) -> bytes:
    """Draws a bar for each class, a panel for each head."""
    figure = new_figure(12, 2.2 * math.ceil(len(shares) / 4))
    axes = add_panels(figure, len(shares), min(4, len(shares)))
    for axis, (head, classes) in zip(axes, shares.items(), strict=True):
        names = list(classes)[::-1]
        bars = axis.barh(names, [classes[name] for name in names], color=colour)
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
        axis.set_title(head, fontsize=10)
        axis.set_xlim(0, 1)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    return to_png(figure)


def draw_sample_grid(images: npt.NDArray[np.uint8], captions: Sequence[str], columns: int) -> bytes:
    """Draws images with a caption under each."""
    figure = new_figure(1.9 * columns, 2.5 * math.ceil(len(images) / columns))
    axes = add_panels(figure, len(images), columns)
    for axis, image, caption in zip(axes, images, captions, strict=True):
        axis.axis("off")
        axis.imshow(image)
        axis.set_title(caption, fontsize=6.5, y=-0.05, va="top")
    return to_png(figure)


def draw_mosaic(columns: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """Draws columns of images side by side, with white gaps; all images have one size."""
    gap = 4
    padded = [
        np.concatenate(
            np.pad(column, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255), axis=0
        )
        for column in columns
    ]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(padded, axis=1)).save(buffer, "PNG")
    return buffer.getvalue()


def encode_jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    """Encodes one RGB image as JPEG, a tenth of a PNG's size."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
