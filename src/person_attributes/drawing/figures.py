"""Pictures from arrays; every function returns the same bytes for the same input."""

import io
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

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
