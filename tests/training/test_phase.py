from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from person_attributes.config import Params
from person_attributes.data.augment import Augmenter
from person_attributes.data.batches import ImageBatches
from person_attributes.errors import TrainingError
from person_attributes.evaluation.metrics import cross_entropy
from person_attributes.evaluation.predictions import predict_batches
from person_attributes.modeling.classifier import Normalization, build_classifier
from person_attributes.training.phase import (
    TrainedPhase,
    check_pairing,
    compile_classifier,
    train_phase,
)

ROWS = 24
CLASSES = {"left": 3, "right": 3}


@pytest.fixture
def small(params: Params) -> Params:
    model = params.model.model_copy(update={"blocks": (1, 1, 1, 1)})
    training = params.training.model_copy(update={"batch_size": 8})
    return params.model_copy(update={"model": model, "training": training})


def _build(params: Params) -> keras.Model:
    keras.utils.set_random_seed(3)
    normalization = Normalization([128.0] * 3, [64.0] * 3)
    return build_classifier(32, CLASSES, params.model, normalization)


def _batches(seed: int | None, augmenter: Augmenter | None = None) -> ImageBatches:
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)
    targets = {head: np.eye(3, dtype=np.float32)[random.integers(0, 3, ROWS)] for head in CLASSES}
    return ImageBatches(images, targets, np.arange(ROWS), 8, augmenter=augmenter, seed=seed)


def _train(params: Params, folder: Path, **changes: object) -> tuple[keras.Model, TrainedPhase]:
    phase = params.phases["p1"].model_copy(update={"epochs": 2, **changes})
    folder.mkdir()
    classifier = _build(params)
    augmenter = Augmenter(params.augmentation[phase.augmentation])
    trained = train_phase(
        classifier,
        _batches(1, augmenter),
        _batches(None),
        phase,
        params.training,
        folder / "best.weights.h5",
        listeners=[],
    )
    return classifier, trained


def test_keras_pairs_losses_and_accuracies_with_their_heads(small: Params) -> None:
    """Some releases of Keras do not, and nothing raises where shapes agree."""
    classifier, batches = _build(small), _batches(None)
    compile_classifier(classifier, learning_rate=1e-3, jit_compile=False)
    said = classifier.evaluate(batches, return_dict=True, verbose=0)
    y_prob = predict_batches(classifier, batches)
    batch_targets = [batches[index][1] for index in range(len(batches))]
    for head in CLASSES:
        y_true = np.concatenate([targets[head] for targets in batch_targets])
        assert said[f"{head}_loss"] == pytest.approx(cross_entropy(y_true, y_prob[head]), rel=1e-4)
        hits = y_true.argmax(axis=1) == y_prob[head].argmax(axis=1)
        assert said[f"{head}_accuracy"] == pytest.approx(hits.mean())
    assert said["left_loss"] != pytest.approx(said["right_loss"])


class _Crossed(keras.Model):
    """Reports each head's loss under the other's name, as broken releases of Keras did."""

    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        said = super().evaluate(*arguments, **options)
        return said | {"left_loss": said["right_loss"], "right_loss": said["left_loss"]}


def test_heads_that_are_paired_wrongly_are_refused(small: Params) -> None:
    classifier = _build(small)
    kernel, _ = classifier.get_layer("left").get_weights()
    classifier.get_layer("left").set_weights([kernel, np.array([5.0, 0.0, -5.0])])
    crossed = _Crossed(classifier.input, classifier.output, name="crossed")
    compile_classifier(crossed, learning_rate=1e-3, jit_compile=False)
    with pytest.raises(TrainingError, match=r"left_loss: Keras .* pairs heads wrongly"):
        check_pairing(crossed, _batches(None))


def test_a_single_head_trains_too(small: Params, tmp_path: Path) -> None:
    normalization = Normalization([128.0] * 3, [64.0] * 3)
    classifier = build_classifier(32, {"only": 3}, small.model, normalization)
    images = np.zeros((8, 32, 32, 3), np.uint8)
    targets = {"only": np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 0, 1]]}
    batches = ImageBatches(images, targets, np.arange(8), 8, augmenter=None, seed=None)
    phase = small.phases["p1"].model_copy(update={"epochs": 1})
    checkpoint = tmp_path / "best.weights.h5"
    trained = train_phase(classifier, batches, batches, phase, small.training, checkpoint, [])
    assert {"only_accuracy", "val_only_loss", "val_mean_accuracy"} <= set(trained.history[0])


def test_the_same_phase_twice_gives_the_same_weights(small: Params, tmp_path: Path) -> None:
    first, history = _train(small, tmp_path / "a", augmentation="aggressive")
    again, same = _train(small, tmp_path / "b", augmentation="aggressive")
    assert history == same
    for ours, theirs in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_weights_of_the_least_validation_loss_are_kept(small: Params, tmp_path: Path) -> None:
    _, trained = _train(small, tmp_path / "a", epochs=4, learning_rate=0.05)
    losses = [epoch["val_loss"] for epoch in trained.history]
    assert trained.best_epoch == int(np.argmin(losses))
    best = _build(small)
    best.load_weights(tmp_path / "a" / "best.weights.h5")
    compile_classifier(best, learning_rate=1e-3, jit_compile=False)
    said = best.evaluate(_batches(None), return_dict=True, verbose=0)
    assert said["loss"] == pytest.approx(min(losses), rel=1e-4)


def test_a_phase_without_progress_stops_and_lowers_its_rate(small: Params, tmp_path: Path) -> None:
    training = small.training.model_copy(
        update={
            "plateau": small.training.plateau.model_copy(update={"patience": 1, "min_delta": 99.0}),
            "early_stopping": small.training.early_stopping.model_copy(
                update={"patience": 3, "min_delta": 99.0}
            ),
        }
    )
    changed = small.model_copy(update={"training": training})
    _, trained = _train(changed, tmp_path / "a", epochs=20)
    rates = [epoch["learning_rate"] for epoch in trained.history]
    assert len(trained.history) == 4
    assert rates[-1] == pytest.approx(1e-3 * 0.7**2, rel=1e-3)


def test_every_epoch_tells_every_head(small: Params, tmp_path: Path) -> None:
    _, trained = _train(small, tmp_path / "a")
    figures = trained.history[0]
    for part in ("", "val_"):
        accuracies = [figures[f"{part}{head}_accuracy"] for head in CLASSES]
        assert figures[f"{part}mean_accuracy"] == pytest.approx(np.mean(accuracies))
        losses = [figures[f"{part}{head}_loss"] for head in CLASSES]
        assert figures[f"{part}loss"] == pytest.approx(sum(losses), rel=1e-3)


def test_a_loss_that_is_not_finite_ends_the_phase_in_one_line(
    small: Params, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"epoch \d: (val_)?loss is (nan|inf).*learning_rate"):
        _train(small, tmp_path / "a", learning_rate=1e38, epochs=5)
