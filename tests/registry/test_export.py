"""Everything that `params.yaml` offers can be exported, and gives the probabilities of Keras."""

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from person_attributes.config import SMALLEST_SIZES, ModelParams, Params
from person_attributes.data.images import Images
from person_attributes.errors import RegistryError
from person_attributes.modeling import backbones
from person_attributes.modeling.classifier import Normalization, build_classifier
from person_attributes.modeling.ensemble import average_networks
from person_attributes.modeling.necks import NECKS
from person_attributes.registry.export import export_network
from person_attributes.serving.network import Network

NORMALIZATIONS = [
    Normalization([120.0, 110.0, 100.0], [60.0, 50.0, 70.0]),
    Normalization([0.0] * 3, [255.0] * 3, per_image=True),
]
COMBINATIONS = list(
    zip(SMALLEST_SIZES, itertools.cycle(itertools.product(NECKS, NORMALIZATIONS)), strict=False)
)
"""Each backbone with a neck and a normalization, so that each pair of these occurs."""


def _model(params: Params, backbone: str, neck: str) -> ModelParams:
    changes = {"backbone": backbone, "neck": neck, "blocks": (1, 1, 1, 1)}
    return params.model.model_copy(update={**changes, "batch_norm_momentum": 0.03})


def _kind(layer: keras.Layer) -> tuple[object, ...]:
    """Returns what decides whether a layer can be converted; not its size."""
    config = layer.get_config()
    options = ("strides", "padding", "activation", "data_format", "interpolation")
    is_grouped = config.get("groups", 1) > 1
    return type(layer), is_grouped, *(str(config.get(option)) for option in options)


def _shorten(trunk: keras.Model) -> keras.Model:
    """Returns the first layers of a backbone, with at least one layer of each kind.

    Later layers repeat these. Exports of whole backbones take minutes.
    """
    kinds, seen = {_kind(layer) for layer in trunk.layers}, set()
    for layer in trunk.layers:
        seen.add(_kind(layer))
        if seen == kinds:
            start = keras.Model(trunk.input, layer.output)
            if {_kind(layer) for layer in start.layers} == kinds:  # also without parallel branches
                return start
    raise AssertionError("the last layer depends on all others")


def _randomize(classifier: keras.Model, images: Images, random: np.random.Generator) -> None:
    """Changes weights that start as zero or one, and fits the batch norms to the images."""
    for weight in classifier.weights:
        if len(weight.shape) < 2:
            weight.assign_add(random.uniform(0.01, 0.2, weight.shape))
    classifier(images, training=True)


@pytest.mark.pipeline
@pytest.mark.filterwarnings("ignore")  # of Keras and tf2onnx
@pytest.mark.parametrize(
    ("backbone", "neck", "normalization"),
    [(backbone, *pair) for backbone, pair in COMBINATIONS],
    ids=[backbone for backbone, _ in COMBINATIONS],
)
def test_an_exported_network_predicts_what_keras_predicts(
    params: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    random: np.random.Generator,
    backbone: str,
    neck: str,
    normalization: Normalization,
) -> None:
    # tf2onnx does not copy the graph, which takes half of its time, and its own faults are errors.
    monkeypatch.setenv("TF2ONNX_CATCH_ERRORS", "FALSE")
    size = SMALLEST_SIZES[backbone]
    build = backbones.BACKBONES[backbone]
    monkeypatch.setattr(backbones, "BACKBONES", {backbone: lambda model: _shorten(build(model))})
    model = _model(params, backbone, neck)
    keras.utils.set_random_seed(0)
    classifier = build_classifier(size, {"a": 2, "b": 3}, model, normalization)
    images = random.integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    _randomize(classifier, images, random)
    path = tmp_path / "network.onnx"
    export_network(classifier, path, excluded_heads=[])
    expected = classifier(images)
    predicted = Network(path).predict(images)
    for head, probabilities in predicted.items():
        spread = np.ptp(probabilities, axis=0).max()
        assert spread > 1e-4, "predictions depend on the image"
        # Deep networks with random weights amplify rounding: the best agree to 1e-4 of the spread.
        np.testing.assert_allclose(probabilities, expected[head], atol=0.02 * spread, rtol=0)
    keras.backend.clear_session()


@pytest.mark.pipeline
@pytest.mark.filterwarnings("ignore")  # of Keras and tf2onnx
def test_an_ensemble_is_exported_as_one_network(
    params: Params, tmp_path: Path, random: np.random.Generator
) -> None:
    images = random.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    model, members = _model(params, "residual", "gem"), []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        members.append(build_classifier(32, {"a": 2, "b": 3}, model, NORMALIZATIONS[0]))
        _randomize(members[-1], images, random)
    path = tmp_path / "network.onnx"
    export_network(average_networks(members), path, excluded_heads=[])
    answers = [member(images) for member in members]
    for head, y_prob in Network(path).predict(images).items():
        each = [np.array(answer[head]) for answer in answers]
        spread = np.ptp(np.mean(each, axis=0), axis=0).max()
        assert spread > 1e-4, "predictions depend on the image"
        np.testing.assert_allclose(y_prob, np.mean(each, axis=0), atol=0.02 * spread, rtol=0)
    keras.backend.clear_session()


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_onnx_cannot_express_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = keras.Input((8, 8, 3), dtype="uint8", name="image")
    vector = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(images))
    outputs = {"a": layers.Dense(2, "softmax", name="a")(ops.erfinv(vector))}
    with pytest.raises(
        RegistryError, match=r"^export: the network cannot be served .* Set another"
    ):
        export_network(keras.Model(images, outputs), tmp_path / "network.onnx", excluded_heads=[])
    assert "not supported" not in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_cannot_be_written_is_no_fault_of_the_network(tmp_path: Path) -> None:
    images = keras.Input((8, 8, 3), dtype="uint8", name="image")
    vector = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(images))
    network = keras.Model(images, {"a": layers.Dense(2, "softmax", name="a")(vector)})
    folder = tmp_path / "file"
    folder.touch()
    with pytest.raises(OSError, match="file"):
        export_network(network, folder / "network.onnx", excluded_heads=[])
