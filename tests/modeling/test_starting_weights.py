from pathlib import Path

import keras
import numpy as np
import pytest

from person_attributes.config import Params
from person_attributes.errors import ParamsError
from person_attributes.modeling.classifier import Normalization, build_classifier
from person_attributes.modeling.starting_weights import load_starting_weights


def _build(
    params: Params, seed: int, heads: dict[str, int], blocks: tuple[int, ...]
) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = params.model.model_copy(update={"blocks": blocks})
    return build_classifier(32, heads, model, Normalization([128.0] * 3, [64.0] * 3))


@pytest.fixture
def trained(params: Params) -> keras.Model:
    return _build(params, 1, {"age": 5, "hat": 2}, (1, 1, 1, 1))


def _save(classifier: keras.Model, path: Path) -> Path:
    if path.suffix == ".keras":
        classifier.compile("adam", loss=dict.fromkeys(classifier.output, "mse"))
        classifier.save(path)
    else:
        classifier.save_weights(path)
    return path


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
def test_weights_of_a_file_replace_random_ones(
    params: Params, trained: keras.Model, tmp_path: Path, name: str
) -> None:
    path = _save(trained, tmp_path / name)
    other = _build(params, 2, {"age": 5, "hat": 2}, (1, 1, 1, 1))
    assert load_starting_weights(other, path, "all") == len(trained.get_weights())
    for ours, theirs in zip(other.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_backbone_can_be_loaded_for_other_heads(
    params: Params, trained: keras.Model, tmp_path: Path
) -> None:
    path = _save(trained, tmp_path / "a.weights.h5")
    other = _build(params, 2, {"colour": 7}, (1, 1, 1, 1))
    tower = other.get_layer("colour").get_weights()[0].copy()
    load_starting_weights(other, path, "backbone")
    pairs = zip(
        other.get_layer("backbone").get_weights(),
        trained.get_layer("backbone").get_weights(),
        strict=True,
    )
    assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)
    np.testing.assert_array_equal(other.get_layer("colour").get_weights()[0], tower)


def test_layers_that_do_not_fit_are_listed(
    params: Params, trained: keras.Model, tmp_path: Path
) -> None:
    path = _save(trained, tmp_path / "a.weights.h5")
    other = _build(params, 2, {"age": 4, "hat": 2}, (1, 1, 1, 1))
    with pytest.raises(
        ParamsError, match=r"1 layers do not fit: age expects \(128, 4\), the file has \(128, 5\)"
    ):
        load_starting_weights(other, path, "all")
    renamed = _build(params, 2, {"years": 5, "hat": 2}, (1, 1, 1, 1))
    with pytest.raises(ParamsError, match=r"years_batch_norm is hat_batch_norm in the file"):
        load_starting_weights(renamed, path, "all")
    deeper = _build(params, 2, {"age": 5, "hat": 2}, (1, 2, 1, 1))
    with pytest.raises(ParamsError, match=r"20 layers do not fit: .*; and 15 more\. Use the model"):
        load_starting_weights(deeper, path, "all")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"not weights", r"not a \.weights\.h5 or \.keras file")],
)
def test_an_unreadable_file_is_reported_in_one_line(
    trained: keras.Model, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "a.weights.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParamsError, match=message) as error:
        load_starting_weights(trained, path, "all")
    assert "\n" not in str(error.value)
