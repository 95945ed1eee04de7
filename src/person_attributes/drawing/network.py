"""Diagram of a network."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from person_attributes.drawing.figures import GREY, new_figure, to_png

if TYPE_CHECKING:
    import keras

_FONT_SIZE = 7
_LETTER_INCHES, _ROW_INCHES = 0.08, 0.75
_HALF_BOX = 0.25
"""Half the height of a box, in rows."""


def draw_network(classifier: "keras.Model") -> bytes:
    """Draws the layers of a network as PNG, from input to outputs; the backbone is one box.

    The font is part of matplotlib, so the result is the same on every machine.
    """
    layers = {layer.name: layer for layer in classifier.layers}
    parents = {name: _list_parents(layer) for name, layer in layers.items()}
    positions = _place(parents, list(classifier.output))
    columns, rows = zip(*positions.values(), strict=True)
    left, right, below = min(columns) - 0.5, max(columns) + 0.5, max(rows) + 0.5
    width = _LETTER_INCHES * max(map(len, layers))
    figure = new_figure((right - left) * width, (below + 0.5) * _ROW_INCHES)
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set(xlim=(left, right), ylim=(below, -0.5))
    box = {"boxstyle": "round", "facecolor": "white", "edgecolor": GREY}
    for name, (x, y) in positions.items():
        for parent in parents[name]:
            above = positions[parent]
            axis.plot((above[0], x), (above[1] + _HALF_BOX, y - _HALF_BOX), color=GREY, zorder=0)
        text = _describe(layers[name])
        axis.text(x, y, text, fontsize=_FONT_SIZE, ha="center", va="center", bbox=box)
    return to_png(figure)


def _list_parents(layer: "keras.Layer") -> list[str]:
    """Lists the input layers of a layer; Keras has no public attribute for them."""
    return [node.operation.name for node in layer._inbound_nodes[-1].parent_nodes]


def _place(
    parents: Mapping[str, Sequence[str]], outputs: Sequence[str]
) -> dict[str, tuple[float, int]]:
    """Assigns a column and a row to each layer.

    Args:
        parents: The input layers of each layer, in topological order.
        outputs: The output layers, one for each column.

    Returns:
        `{layer: (column, row)}`, both from 0. A layer is centred above its children, and below all
        of its parents.
    """
    rows: dict[str, int] = {}
    for name, inputs in parents.items():
        rows[name] = 1 + max((rows[parent] for parent in inputs), default=-1)
    columns: dict[str, float] = {name: number for number, name in enumerate(outputs)}
    for name in reversed(list(parents)):
        children = [child for child, inputs in parents.items() if name in inputs]
        if children:
            columns[name] = float(np.mean([columns[child] for child in children]))
    positions: dict[str, tuple[float, int]] = {}
    for name, row in rows.items():
        same = [other for other in rows if (rows[other], columns[other]) == (row, columns[name])]
        shift = same.index(name) - (len(same) - 1) / 2
        positions[name] = columns[name] + shift, row
    return positions


def _describe(layer: "keras.Layer") -> str:
    sides = " x ".join(str(side) for side in layer.output.shape[1:] if side)
    return f"{layer.name}\n{type(layer).__name__}\n{sides}"
