"""Convolutional trunks, built without weights and without a top."""

from collections.abc import Callable

import keras

# Keras exports DenseNet121, 169 and 201 alone; other blocks need the function below them.
from keras.src.applications.densenet import DenseNet

from person_attributes.config import ModelParams


def build_backbone(model: ModelParams) -> keras.Model:
    """Builds a trunk with random weights.

    Args:
        model: Which trunk, its blocks and the momentum of its batch norms.

    Returns:
        A model named `backbone`, from normalised images (n, height, width, 3) float32 to features
        (n, height / 32, width / 32, channels) float32; height and width are free.
    """
    backbone = BACKBONES[model.backbone](model)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = model.batch_norm_momentum
    return backbone


def _build_densenet(model: ModelParams) -> keras.Model:
    """Builds a DenseNet (Huang et al. 2017); blocks 6, 12, 24, 16 make DenseNet121."""
    return DenseNet(
        blocks=list(model.blocks),
        include_top=False,
        weights=None,
        input_shape=(None, None, 3),
        name="backbone",
    )


BACKBONES: dict[str, Callable[[ModelParams], keras.Model]] = {"densenet": _build_densenet}
