"""A picture of a network."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from person_attributes.drawing.figures import GREY, new_figure, to_png

if TYPE_CHECKING:
    import keras

_FONT_SIZE = 7
_LETTER_INCHES, _ROW_INCHES = 0.08, 0.75
_HALF_BOX = 0.25
"""Of a row."""


def draw_network(classifier: "keras.Model") -> bytes:
    """Draws the network's layers as PNG, from the images down; the backbone is one box.

    Matplotlib brings its font along, so that the picture is the same on every machine.
    """
    layers = {layer.name: layer for layer in classifier.layers}
    parents = {name: _list_parents(layer) for name, layer in layers.items()}
    places = _place(parents, list(classifier.output))
    columns, rows = zip(*places.values(), strict=True)
    left, right, below = min(columns) - 0.5, max(columns) + 0.5, max(rows) + 0.5
    width = _LETTER_INCHES * max(map(len, layers))
    figure = new_figure((right - left) * width, (below + 0.5) * _ROW_INCHES)
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set(xlim=(left, right), ylim=(below, -0.5))
    box = {"boxstyle": "round", "facecolor": "white", "edgecolor": GREY}
    for name, (x, y) in places.items():
        for parent in parents[name]:
            above = places[parent]
            axis.plot((above[0], x), (above[1] + _HALF_BOX, y - _HALF_BOX), color=GREY, zorder=0)
        text = _describe(layers[name])
        axis.text(x, y, text, fontsize=_FONT_SIZE, ha="center", va="center", bbox=box)
    return to_png(figure)


def _list_parents(layer: "keras.Layer") -> list[str]:
    """Names the layers that a layer takes from; Keras tells it by these attributes alone."""
    return [node.operation.name for node in layer._inbound_nodes[-1].parent_nodes]


def _place(
    parents: Mapping[str, Sequence[str]], outputs: Sequence[str]
) -> dict[str, tuple[float, int]]:
    """Gives each layer a column and a row.

    Args:
        parents: The layers that each layer takes from; those come before it.
        outputs: One for each column.

    Returns:
        By layer, a column from 0, in the middle of those that follow it, and a row below all
        parents.
    """
    rows: dict[str, int] = {}
    for name, before in parents.items():
        rows[name] = 1 + max((rows[parent] for parent in before), default=-1)
    columns: dict[str, float] = {name: number for number, name in enumerate(outputs)}
    for name in reversed(list(parents)):
        children = [child for child, before in parents.items() if name in before]
        if children:
            columns[name] = float(np.mean([columns[child] for child in children]))
    places: dict[str, tuple[float, int]] = {}
    for name, row in rows.items():
        beside = [other for other in rows if (rows[other], columns[other]) == (row, columns[name])]
        shift = beside.index(name) - (len(beside) - 1) / 2
        places[name] = columns[name] + shift, row
    return places


def _describe(layer: "keras.Layer") -> str:
    sides = " x ".join(str(side) for side in layer.output.shape[1:] if side)
    return f"{layer.name}\n{type(layer).__name__}\n{sides}"
