"""Figures with matplotlib; the same input always gives the same bytes."""

import io
import math
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from person_attributes.drawing.fonts import set_fonts

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase

GREY = "#8d99ae"

INK = "#010203"
"""Colour of text and lines; `to_svg` replaces it with the text colour of the page."""

_STYLE: Any = {
    "text.parse_math": False,  # class names may contain dollar signs
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "person-attributes",
}


def new_figure(width: float, height: float) -> "Figure":
    """Creates an empty figure; width and height are in inches."""
    from matplotlib import style
    from matplotlib.figure import Figure

    style.use(["default", _STYLE])  # ignores the matplotlibrc of this machine
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def add_panels(figure: "FigureBase", count: int, columns: int) -> list[Any]:
    """Adds a grid of `count` axes; the rest of the last row stays empty."""
    axes = np.atleast_1d(figure.subplots(math.ceil(count / columns), columns)).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return list(axes[:count])


def shorten(name: str, length: int = 14) -> str:
    """Shortens the name of a class, so that a plot has space for it."""
    return name if len(name) <= length else f"{name[: length - 1].rstrip()}…"


def to_png(figure: "Figure") -> bytes:
    """Encodes a figure as PNG; the same figure gives the same bytes."""
    return _save(figure, format="png", metadata={"Software": None})


def to_svg(figure: "Figure") -> str:
    """Encodes a figure as SVG in the text colour of its page; the output is reproducible."""
    metadata = {"Date": None, "Creator": None}
    content = _save(figure, format="svg", transparent=True, metadata=metadata)
    svg = re.sub("<metadata>.*?</metadata>", "", content.decode("utf-8"), flags=re.DOTALL)
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _save(figure: "Figure", **options: Any) -> bytes:
    set_fonts(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # `set_fonts` has printed one line for all of them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        if figure.subfigs:
            figure.draw_without_rendering()  # their first layout cuts off titles
        figure.savefig(buffer, **options)
    return buffer.getvalue()
