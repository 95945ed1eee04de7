"""Convolutional backbones without a top and with random weights."""

import functools
from collections.abc import Callable, Mapping

import keras
from keras import applications

# Keras exports only DenseNet121, 169 and 201; other block counts need this internal function.
from keras.src.applications.densenet import DenseNet

from person_attributes.config import ModelParams
from person_attributes.modeling.inception_v4 import build_inception_v4
from person_attributes.modeling.residual import build_residual
from person_attributes.modeling.resnext import build_resnext50

_BUILT_IN_PREPROCESSING = (keras.layers.Rescaling, keras.layers.Normalization)
"""First layers of some Keras networks; they are removed, since the classifier normalizes."""


def build_backbone(model: ModelParams) -> keras.Model:
    """Builds a backbone with random weights.

    Args:
        model: The kind of backbone, its blocks and the momentum of its batch norms.

    Returns:
        A model named `backbone`, from normalized images (n, height, width, 3) float32 to features
        of about (n, height / 32, width / 32, channels) float32; height and width are variable.
    """
    trunk = _remove_preprocessing(BACKBONES[model.backbone](model))
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = model.batch_norm_momentum
    return trunk


def _remove_preprocessing(trunk: keras.Model) -> keras.Model:
    """Removes the layers that scale pixels, and names the model."""
    image, *layers = trunk.layers
    start = image.output
    for layer in layers:
        if not isinstance(layer, _BUILT_IN_PREPROCESSING):
            break
        start = layer.output
    return keras.Model(start, trunk.output, name="backbone")


def _of_keras(build: Callable[..., keras.Model], **options: bool) -> Callable[..., keras.Model]:
    def build_trunk(model: ModelParams) -> keras.Model:
        return build(include_top=False, weights=None, input_shape=(None, None, 3), **options)

    return build_trunk


def _build_densenet(model: ModelParams) -> keras.Model:
    """Builds a DenseNet (Huang et al. 2017); blocks 6, 12, 24, 16 make DenseNet121."""
    return DenseNet(
        blocks=list(model.blocks), include_top=False, weights=None, input_shape=(None, None, 3)
    )


_without_preprocessing = functools.partial(_of_keras, include_preprocessing=False)

BACKBONES: Mapping[str, Callable[[ModelParams], keras.Model]] = {
    "densenet": _build_densenet,
    "densenet121": _of_keras(applications.DenseNet121),
    "densenet169": _of_keras(applications.DenseNet169),
    "densenet201": _of_keras(applications.DenseNet201),
    "resnet50": _of_keras(applications.ResNet50),
    "resnet50v2": _of_keras(applications.ResNet50V2),
    "resnext50": lambda model: build_resnext50(),
    "inception_v3": _of_keras(applications.InceptionV3),
    "inception_v4": lambda model: build_inception_v4(),
    "inception_resnet_v2": _of_keras(applications.InceptionResNetV2),
    "xception": _of_keras(applications.Xception),
    "mobilenet_v3_small": _without_preprocessing(applications.MobileNetV3Small),
    "mobilenet_v3_large": _without_preprocessing(applications.MobileNetV3Large),
    "efficientnet_b0": _of_keras(applications.EfficientNetB0),
    "efficientnet_b3": _of_keras(applications.EfficientNetB3),
    "efficientnet_v2_b0": _without_preprocessing(applications.EfficientNetV2B0),
    "efficientnet_v2_s": _without_preprocessing(applications.EfficientNetV2S),
    "convnext_tiny": _without_preprocessing(applications.ConvNeXtTiny),
    "residual": lambda model: build_residual(model.residual),
}
"""Builders by name; `config` has the smallest image size of each."""
