import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tiny_phase import CLASSES, ROWS, build_tiny, make_batches, make_recipe

from person_attributes.config import Params
from person_attributes.data.augment import Augmenter
from person_attributes.data.batches import ImageBatches
from person_attributes.data.mixing import Mixer
from person_attributes.errors import TrainingError
from person_attributes.evaluation.metrics import cross_entropy
from person_attributes.evaluation.predictions import predict_batches
from person_attributes.runtime.checkpoint import Checkpoint, Progress
from person_attributes.training.callbacks import EpochListener
from person_attributes.training.objective import PhaseNetwork, compile_network
from person_attributes.training.phase import (
    TrainedPhase,
    check_pairing,
    make_network,
    train_phase,
)
from person_attributes.training.precision import configure_runtime


@pytest.fixture
def small(params: Params) -> Params:
    phases = {
        name: phase.model_copy(update={"batch_size": 8}) for name, phase in params.phases.items()
    }
    return params.model_copy(update={"phases": phases})


def _train(
    params: Params,
    folder: Path,
    *,
    workers: int = 0,
    checkpoint_minutes: float = 60,
    listeners: Sequence[EpochListener] = (),
    **changes: object,
) -> tuple[keras.Model, TrainedPhase]:
    recipe = make_recipe(params, **{"epochs": 2, **changes})
    classifier = build_tiny(params)
    augmenter = Augmenter(recipe.augmentation) if recipe.augmentation.augmenters else None
    mixer = Mixer(recipe.augmentation) if recipe.augmentation.mixes else None
    checkpoint = Checkpoint(folder, "p1", "0" * 64, checkpoint_minutes)
    with checkpoint.lock():
        trained = train_phase(
            classifier,
            make_batches(1, augmenter, mixer, workers),
            make_batches(None),
            recipe,
            checkpoint,
            listeners,
        )
    return classifier, trained


def _compile(params: Params, classifier: keras.Model, train: ImageBatches) -> PhaseNetwork:
    """Compiles the network of the first phase with plain gradient descent at a rate of 1."""
    network = make_network(classifier, train, make_recipe(params))
    compile_network(network, keras.optimizers.SGD(1.0), jit_compile=False)
    return network


def _assert_same(ours: keras.Model, theirs: keras.Model) -> None:
    for our, their in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(our, their)


def test_keras_pairs_losses_and_accuracies_with_their_heads(small: Params) -> None:
    """Some releases of Keras do not, without an error if shapes agree."""
    classifier, batches = build_tiny(small), make_batches(None)
    network = _compile(small, classifier, batches)
    reported = network.evaluate(batches, return_dict=True, verbose=0)
    y_prob = predict_batches(classifier, batches)
    batch_targets = [batches[index][1] for index in range(len(batches))]
    for head in CLASSES:
        y_true = np.concatenate([targets[head] for targets in batch_targets])
        assert reported[f"{head}_loss"] == pytest.approx(
            cross_entropy(y_true, y_prob[head]), rel=1e-4
        )
        hits = y_true.argmax(axis=1) == y_prob[head].argmax(axis=1)
        assert reported[f"{head}_accuracy"] == pytest.approx(hits.mean())
    assert reported["left_loss"] != pytest.approx(reported["right_loss"])


def _mask(batches: ImageBatches, head: str, rows: Sequence[int]) -> ImageBatches:
    """Removes the labels of a head from some rows."""
    targets = {name: target.copy() for name, target in batches.targets.items()}
    targets[head][list(rows)] = 0
    return ImageBatches(batches.images, targets, np.arange(ROWS), 8, augmenter=None, seed=None)


def test_losses_and_accuracies_are_means_over_labelled_rows(small: Params) -> None:
    """Also if missing labels are unevenly distributed: one of three batches has no label."""
    classifier, missing = build_tiny(small), [*range(8), 9, 20]
    batches = _mask(make_batches(None), "left", missing)
    network = _compile(small, classifier, batches)
    check_pairing(network, batches)
    reported = network.evaluate(batches, return_dict=True, verbose=0)
    y_prob = predict_batches(classifier, batches)
    for head, kept in (("left", np.delete(np.arange(ROWS), missing)), ("right", np.arange(ROWS))):
        y_true = batches.targets[head][kept]
        loss = cross_entropy(y_true, y_prob[head][kept])
        assert reported[f"{head}_loss"] == pytest.approx(loss, rel=1e-4)
        hits = y_true.argmax(axis=1) == y_prob[head][kept].argmax(axis=1)
        assert reported[f"{head}_accuracy"] == pytest.approx(hits.mean())
    assert reported["loss"] == pytest.approx(
        reported["left_loss"] + reported["right_loss"], rel=1e-4
    )


def test_a_missing_label_does_not_contribute_to_the_gradient(small: Params) -> None:
    """Compares one step of gradient descent with the gradient of the labelled rows."""
    model = small.model.model_copy(update={"dropout": 0.0})
    classifier = build_tiny(small.model_copy(update={"model": model}))
    batches = _mask(make_batches(None), "left", [0, 3, 5])
    images, y_true, weights = batches[0]
    for head in CLASSES:
        layer = classifier.get_layer(head)
        hidden = keras.Model(classifier.input, layer.input)
        h = keras.ops.convert_to_numpy(hidden(images, training=True))
        p = keras.ops.convert_to_numpy(classifier(images, training=True)[head])
        kept = y_true[head].any(axis=1)
        gradient = h[kept].T @ (p - y_true[head])[kept]
        # Row weights are scaled so that 21 labels of 24 rows sum to 24 over an epoch.
        expected = layer.get_weights()[0] - gradient * weights[head].max() / len(images)
        copy = keras.models.clone_model(classifier)
        copy.set_weights(classifier.get_weights())
        _compile(small, copy, batches).train_on_batch(images, y_true, weights)
        np.testing.assert_allclose(
            copy.get_layer(head).get_weights()[0], expected, rtol=1e-3, atol=1e-5
        )


def test_a_head_without_labels_keeps_its_weights(small: Params, tmp_path: Path) -> None:
    before, classifier = build_tiny(small), build_tiny(small)
    batches = _mask(make_batches(None), "left", range(ROWS))
    checkpoint = Checkpoint(tmp_path, "p1", "0" * 64, 60)
    with checkpoint.lock():
        train_phase(classifier, batches, batches, make_recipe(small, epochs=1), checkpoint, [])
    for name, is_same in (("left", True), ("left_dense", True), ("right", False)):
        pairs = zip(
            classifier.get_layer(name).get_weights(),
            before.get_layer(name).get_weights(),
            strict=True,
        )
        assert all(np.array_equal(after, start) for after, start in pairs) is is_same


def test_wrongly_paired_heads_are_refused(small: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken releases of Keras report each head's loss under the other's name."""
    classifier = build_tiny(small)
    kernel, _ = classifier.get_layer("left").get_weights()
    classifier.get_layer("left").set_weights([kernel, np.array([5.0, 0.0, -5.0])])
    network = _compile(small, classifier, make_batches(None))
    reported = network.test_on_batch(*make_batches(None)[0], return_dict=True)
    crossed = reported | {"left_loss": reported["right_loss"], "right_loss": reported["left_loss"]}
    monkeypatch.setattr(network, "test_on_batch", lambda *_, **__: crossed)
    with pytest.raises(TrainingError, match=r"left_loss: Keras .* pairs heads wrongly"):
        check_pairing(network, make_batches(None))


def test_confident_errors_are_not_mistaken_for_wrong_pairing(small: Params) -> None:
    """After few steps, when running statistics lag, probabilities are 0 and losses 60."""
    classifier = build_tiny(small)
    for head in CLASSES:
        kernel, _ = classifier.get_layer(head).get_weights()
        classifier.get_layer(head).set_weights([kernel, np.array([60.0, 0.0, -60.0])])
    check_pairing(_compile(small, classifier, make_batches(None)), make_batches(None))


def test_a_single_head_trains(small: Params, tmp_path: Path) -> None:
    classifier = build_tiny(small, {"only": 3})
    images = np.zeros((8, 32, 32, 3), np.uint8)
    targets = {"only": np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 0, 1]]}
    batches = ImageBatches(images, targets, np.arange(8), 8, augmenter=None, seed=None)
    checkpoint = Checkpoint(tmp_path, "p1", "0" * 64, 60)
    with checkpoint.lock():
        trained = train_phase(
            classifier, batches, batches, make_recipe(small, epochs=1), checkpoint, []
        )
    assert {"only_accuracy", "val_only_loss", "val_mean_accuracy"} <= set(trained.history[0])


def test_two_runs_of_a_phase_give_the_same_weights(small: Params, tmp_path: Path) -> None:
    first, history = _train(small, tmp_path / "a", augmentation="aggressive")
    again, same = _train(small, tmp_path / "b", augmentation="aggressive")
    assert history == same
    _assert_same(first, again)


def test_the_weights_with_the_lowest_validation_loss_are_kept(
    small: Params, tmp_path: Path
) -> None:
    best, trained = _train(small, tmp_path / "a", epochs=4, learning_rate=0.05)
    losses = [epoch["val_loss"] for epoch in trained.history]
    assert trained.best_epoch == int(np.argmin(losses))
    reported = _compile(small, best, make_batches(None)).evaluate(
        make_batches(None), return_dict=True, verbose=0
    )
    assert reported["loss"] == pytest.approx(min(losses), rel=1e-4)


def test_a_plateau_lowers_the_rate_and_stops_the_phase(small: Params, tmp_path: Path) -> None:
    changed = small.change(
        {
            "schedules.plateau.patience": 1,
            "schedules.plateau.min_delta": 99.0,
            "training.early_stopping.patience": 3,
            "training.early_stopping.min_delta": 99.0,
        }
    )
    _, trained = _train(changed, tmp_path / "a", epochs=20)
    rates = [epoch["learning_rate"] for epoch in trained.history]
    assert len(trained.history) == 4
    assert rates[-1] == pytest.approx(1e-3 * 0.7**2, rel=1e-3)


def test_every_epoch_reports_every_head(small: Params, tmp_path: Path) -> None:
    _, trained = _train(small, tmp_path / "a")
    metrics = trained.history[0]
    for part in ("", "val_"):
        accuracies = [metrics[f"{part}{head}_accuracy"] for head in CLASSES]
        assert metrics[f"{part}mean_accuracy"] == pytest.approx(np.mean(accuracies))
        losses = [metrics[f"{part}{head}_loss"] for head in CLASSES]
        assert metrics[f"{part}loss"] == pytest.approx(sum(losses), rel=1e-3)


def test_a_phase_without_a_step_of_the_optimizer_is_refused(small: Params, tmp_path: Path) -> None:
    """Three batches in each of two epochs."""
    accumulating = small.change({"optimizers.sgd.accumulate": 7})
    with pytest.raises(TrainingError, match=r"sgd.accumulate: expected at most .* 6. Received: 7"):
        _train(accumulating, tmp_path, optimizer="sgd", epochs=2)


def test_a_loss_that_is_not_finite_ends_the_phase(small: Params, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"epoch \d: (val_)?loss is (nan|inf).*learning_rate"):
        _train(small, tmp_path / "a", learning_rate=1e38, epochs=5)


class _StopError(Exception):
    """Ends a training from inside, like a crash."""


def _stop_after(epochs: int) -> EpochListener:
    def listen(epoch: int, metrics: object) -> None:
        if epoch + 1 == epochs:
            raise _StopError

    return listen


RECIPES: dict[str, dict[str, Any]] = {
    "article": {"trainable": "all", "augmentation": "none"},
    "augmented": {"trainable": "all", "augmentation": "aggressive"},
    "frozen": {"trainable": "heads", "augmentation": "none"},
    "frozen and augmented": {"trainable": "heads", "augmentation": "aggressive"},
    "averaged": {"optimizer": "adamw", "schedule": "cosine", "augmentation": "mixed"},
    "accumulated": {"optimizer": "sgd", "schedule": "triangular2", "loss": "learned"},
    "partly frozen": {"trainable": 0.5, "schedule": "one_cycle", "loss": "rare"},
}
"""Recipes that cover all hyperparameters of training."""


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_resumed_phase_equals_uninterrupted_phase(
    small: Params, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """The first checkpoint is inside the second epoch, the next one inside the third."""
    params = small.change(
        {
            "schedules.plateau.patience": 1,
            "schedules.plateau.min_delta": 9.0,
            "training.early_stopping.patience": 3,
            "training.early_stopping.min_delta": 9.0,
            "optimizers.sgd.accumulate": 2,
        }
    )
    changes = {"epochs": 9, **changes}
    whole, history = _train(params, tmp_path / "whole", **changes)
    for epochs in (2, 3):
        with pytest.raises(_StopError):
            _train(
                params,
                tmp_path / "parts",
                checkpoint_minutes=0,
                listeners=[_stop_after(epochs)],
                **changes,
            )
    epochs_trained: list[int] = []
    resumed, same = _train(
        params,
        tmp_path / "parts",
        listeners=[lambda epoch, _: epochs_trained.append(epoch)],
        **changes,
    )
    assert epochs_trained == [2, 3]
    assert len(history.history) == 4, "early stopping"
    assert same == history
    _assert_same(resumed, whole)


def test_worker_processes_do_not_change_the_result(small: Params, tmp_path: Path) -> None:
    alone, history = _train(small, tmp_path / "a", augmentation="aggressive")
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        helped, same = _train(small, folder, augmentation="aggressive", workers=workers)
        assert same == history
        _assert_same(helped, alone)


def test_cached_features_train_the_same_heads(
    small: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached, history = _train(small, tmp_path / "a", trainable="heads", epochs=3)
    name = "person_attributes.training.phase.has_constant_features"
    monkeypatch.setattr(name, lambda recipe, train: False)
    plain, expected = _train(small, tmp_path / "b", trainable="heads", epochs=3)
    assert (tmp_path / "a" / "p1").is_dir()
    for ours, theirs in zip(cached.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(history.history, expected.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_frozen_backbone_does_not_change(small: Params, tmp_path: Path) -> None:
    before = build_tiny(small).get_layer("backbone").get_weights()
    for augmentation in ("none", "aggressive"):
        folder = tmp_path / augmentation
        trained, _ = _train(small, folder, trainable="heads", augmentation=augmentation)
        for ours, theirs in zip(trained.get_layer("backbone").get_weights(), before, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_averaged_weights_are_validated_and_kept_but_not_trained(
    small: Params, tmp_path: Path
) -> None:
    """A slow average stays close to the weights of the first step."""
    slow = small.change({"optimizers.adamw.ema_momentum": 0.9999})
    changes: dict[str, Any] = {"epochs": 3, "optimizer": "adamw", "schedule": "constant"}
    kept, trained = _train(slow, tmp_path / "a", **changes)
    start = build_tiny(slow)
    raw = small.change({"optimizers.adamw.ema_momentum": 0.0})
    plain, without = _train(raw, tmp_path / "b", **changes)

    def distance(network: keras.Model) -> float:
        to_numpy = keras.ops.convert_to_numpy
        pairs = zip(network.trainable_weights, start.trainable_weights, strict=True)
        return sum(float(np.abs(to_numpy(ours) - to_numpy(first)).sum()) for ours, first in pairs)

    assert 0 < distance(kept) < 0.8 * distance(plain)
    for ours, theirs in zip(trained.history, without.history, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3), "training is the same"
    assert trained.history[-1]["val_loss"] != pytest.approx(without.history[-1]["val_loss"])
    reported = _compile(slow, kept, make_batches(None)).evaluate(
        make_batches(None), return_dict=True, verbose=0
    )
    assert reported["loss"] == pytest.approx(min(epoch["val_loss"] for epoch in trained.history))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains_float32_weights(
    small: Params, tmp_path: Path, precision: str
) -> None:
    training = small.training.model_copy(update={"precision": precision})
    params = small.model_copy(update={"training": training})
    configure_runtime(training)
    try:
        classifier, trained = _train(params, tmp_path / "a", augmentation="aggressive")
    finally:
        configure_runtime(small.training)
    assert {str(weight.dtype) for weight in classifier.trainable_weights} == {"float32"}
    assert classifier.get_layer("backbone").compute_dtype == precision
    assert trained.history[-1]["val_loss"] < 10


def test_a_full_disk_is_reported_and_the_last_checkpoint_is_kept(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "p1", "0" * 64, 60)
    with checkpoint.lock():
        checkpoint.write(Progress(epoch=3, arrays={"network": [np.ones(10, np.float32)]}))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(
                TrainingError, match=r"p1: no space for a checkpoint of 4 MB in .*Free"
            ):
                checkpoint.write(Progress(epoch=4, arrays={"network": [np.ones(1_000_000, "f4")]}))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert checkpoint.read().epoch == 3
        assert [path.name for path in checkpoint.folder.iterdir()] == ["state.npy"]


def test_a_broken_checkpoint_restarts_the_phase(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint(tmp_path, "p1", "0" * 64, 60)
    with checkpoint.lock():
        checkpoint.write(Progress(epoch=3, arrays={"network": [np.ones(10, np.float32)]}))
        state = checkpoint.folder / "state.npy"
        state.write_bytes(state.read_bytes()[:100])
        assert checkpoint.read() == Progress()
    assert "is broken; starting from epoch 1" in capsys.readouterr().out


def test_a_checkpoint_with_another_number_of_callbacks_is_refused(
    small: Params, tmp_path: Path
) -> None:
    with pytest.raises(_StopError):
        _train(small, tmp_path, checkpoint_minutes=0, listeners=[_stop_after(2)])
    checkpoint = Checkpoint(tmp_path, "p1", "0" * 64, 60)
    with checkpoint.lock():
        progress = checkpoint.read()
        progress.callbacks.pop()
        checkpoint.write(progress)
    with pytest.raises(ValueError, match="shorter"):
        _train(small, tmp_path)


def test_out_of_memory_is_reported_in_one_line_with_advice(
    small: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allocate_too_much(*_: object, **__: object) -> None:
        # JAX traces this step, and would allocate nothing yet.
        module = np if keras.backend.backend() == "jax" else keras.ops
        module.ones((1 << 22, 1 << 20))

    monkeypatch.setattr(PhaseNetwork, "test_step", allocate_too_much)
    checkpoint = Checkpoint(tmp_path, "p1", "0" * 64, 60)
    with (
        checkpoint.lock(),
        pytest.raises(
            TrainingError,
            match=r"p1: out of memory with batches of 8 .* run the command again\.",
        ) as error,
    ):
        train_phase(
            build_tiny(small),
            make_batches(1),
            make_batches(None),
            make_recipe(small),
            checkpoint,
            [],
        )
    assert "\n" not in str(error.value)
