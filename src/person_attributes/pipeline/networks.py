"""Builds the networks of the stages."""

import json

import keras

from person_attributes.config import Params
from person_attributes.labels import LabelMap
from person_attributes.modeling.classifier import Normalization, build_classifier
from person_attributes.workspace import Workspace


def build_network(
    workspace: Workspace,
    params: Params,
    image_size: int | str,
    normalization: Normalization | None = None,
) -> keras.Model:
    """Builds the network with random weights.

    Args:
        workspace: The project.
        params: All parameters.
        image_size: The size of the input in pixels, such as 64 or `128x64`.
        normalization: None reads the output of `initialize`.
    """
    if normalization is None:
        content = json.loads(workspace.normalization.read_text(encoding="utf-8"))
        normalization = Normalization(**content)
    class_counts = LabelMap.read(workspace.label_map).class_counts
    return build_classifier(image_size, class_counts, params.model, normalization)
