"""A picture of a network."""

import keras
import pygraphviz  # its wheels bring Graphviz along, so nothing need be on the system


def draw_network(classifier: keras.Model) -> bytes:
    """Draws the network's layers as PNG; the backbone is one box."""
    dot = keras.utils.model_to_dot(
        classifier, show_shapes=True, show_layer_names=True, rankdir="TB", dpi=60
    )
    return bytes(pygraphviz.AGraph(string=dot.to_string()).draw(format="png", prog="dot"))
