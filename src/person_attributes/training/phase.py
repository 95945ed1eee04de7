"""Trains one phase, from the weights of the phase before to its own best weights."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from person_attributes.config import Recipe
from person_attributes.data.batches import ImageBatches
from person_attributes.errors import TrainingError, UntrainableError
from person_attributes.modeling.classifier import freeze
from person_attributes.runtime.checkpoint import Checkpoint
from person_attributes.runtime.devices import count_devices, translate_lost_hosts
from person_attributes.runtime.memory import translate_out_of_memory
from person_attributes.runtime.progress_bar import ProgressBar
from person_attributes.training.callbacks import BestWeights, EpochListener, Recorder
from person_attributes.training.features import cache_features, split_off_towers
from person_attributes.training.objective import PhaseNetwork, compile_network, make_losses
from person_attributes.training.optimizer import make_optimizer
from person_attributes.training.replicas import share_batch_norms
from person_attributes.training.resume import CheckpointCallback, TrackedCallbacks
from person_attributes.training.schedules import make_plateau, make_schedule


@dataclass(frozen=True)
class TrainedPhase:
    """The result of a phase.

    Attributes:
        history: Metrics of each epoch, in order.
        best_epoch: The epoch with the lowest validation loss, from 0; its weights are kept.
    """

    history: list[dict[str, float]]
    best_epoch: int


def train_phase(
    classifier: keras.Model,
    train: ImageBatches,
    validation: ImageBatches,
    recipe: Recipe,
    checkpoint: Checkpoint,
    listeners: Sequence[EpochListener],
) -> TrainedPhase:
    """Trains the network, or resumes from the checkpoint, and keeps the best weights.

    The best weights have the lowest validation loss, the plain sum of cross-entropies, whatever the
    objective is. They are averaged weights if the optimizer averages. The features of a frozen
    backbone are computed once if images are not augmented.

    Args:
        classifier: The network with the initial weights; they are replaced by the best ones.
        train: Training batches.
        validation: Validation batches.
        recipe: The parameters of the phase.
        checkpoint: The checkpoint of the phase.
        listeners: Called after each epoch.

    Returns:
        The metrics of each epoch, and the best epoch.

    Raises:
        StoppedError: On Ctrl-C or SIGTERM: run the phase again to resume from the checkpoint.
        UntrainableError: If the loss is not finite: lower the phase's learning rate. If memory runs
            out, or the optimizer accumulates more batches than the phase has: lower the setting
            that the message names.
        TrainingError: If the disk is full: free some space. If Keras pairs heads wrongly: install
            the locked version.
    """
    _require_steps(checkpoint.phase, train, recipe)
    progress = checkpoint.read()
    is_cached = has_constant_features(recipe, train)
    network = make_network(classifier, train, recipe)
    if not progress.is_complete:
        name, section = checkpoint.phase, recipe.phase
        with (
            translate_out_of_memory(name, section.batch_size, section.image_size),
            translate_lost_hosts(name),
        ):
            if is_cached:
                path = checkpoint.folder / "features.npy"
                train, validation = cache_features(classifier, train, validation, path)
            tracked = _make_tracked_callbacks(recipe, train, listeners)
            checkpointing = CheckpointCallback(train, tracked, checkpoint, progress, section.epochs)
            _fit(network, train, validation, recipe, checkpointing)
            checkpointing.signals.raise_if_signalled(name, "at its end")
    assert progress.best_epoch is not None, "a complete phase has trained an epoch"
    network.set_weights(progress.arrays["best"])
    return TrainedPhase(progress.history, progress.best_epoch)


def _require_steps(name: str, train: ImageBatches, recipe: Recipe) -> None:
    """Refuses an optimizer that accumulates the gradients of more batches than there are."""
    batches, accumulate = train.batches * recipe.phase.epochs, recipe.optimizer.accumulate
    if batches < accumulate:
        raise UntrainableError(
            f"{name}: optimizers.{recipe.phase.optimizer}.accumulate: expected at most the number "
            f"of batches of the phase, {batches}. Received: {accumulate}, so the weights would not "
            "change. Lower it, or train more epochs."
        )


def has_constant_features(recipe: Recipe, train: ImageBatches) -> bool:
    """Returns whether the backbone computes the same features in every epoch."""
    return recipe.phase.trainable == "heads" and not train.is_augmented


def make_network(classifier: keras.Model, train: ImageBatches, recipe: Recipe) -> PhaseNetwork:
    """Freezes layers and compiles the network with the objective of the phase.

    If features are constant, the network consists of the towers only.
    """
    freeze(classifier, recipe.phase.trainable)
    if count_devices() > 1:
        share_batch_norms(classifier)
    labels = {head: target[train.positions] for head, target in train.targets.items()}
    trained = split_off_towers(classifier) if has_constant_features(recipe, train) else classifier
    network = PhaseNetwork(trained, make_losses(recipe.loss, labels), recipe.loss)
    rate = make_schedule(
        recipe.schedule, recipe.phase.learning_rate, train.batches, recipe.phase.epochs
    )
    optimizer = make_optimizer(recipe.optimizer, rate)
    compile_network(network, optimizer, jit_compile=recipe.training.jit_compile)
    return network


def _make_tracked_callbacks(
    recipe: Recipe, train: ImageBatches, listeners: Sequence[EpochListener]
) -> TrackedCallbacks:
    stopping = recipe.training.early_stopping
    schedules = [
        *make_plateau(recipe.schedule),
        keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=stopping.patience, min_delta=stopping.min_delta
        ),
    ]
    return TrackedCallbacks(Recorder(train, listeners), BestWeights(), schedules)


def _fit(
    network: PhaseNetwork,
    train: ImageBatches,
    validation: ImageBatches,
    recipe: Recipe,
    checkpointing: CheckpointCallback,
) -> None:
    """Runs `fit` once, or twice if the checkpoint is inside an epoch."""
    check_pairing(network, validation)
    checkpointing.restore(network)
    epochs, progress, tracked = recipe.phase.epochs, checkpointing.progress, checkpointing.tracked
    averaging = [keras.callbacks.SwapEMAWeights()] if recipe.optimizer.ema_momentum else []
    bar = ProgressBar(train, epochs)
    with checkpointing.signals.listening():
        while not progress.is_complete:
            # Keras reads the number of batches once per `fit`, so a partial epoch needs its own.
            train.first_batch = progress.batch
            network.fit(
                train,
                validation_data=validation,
                initial_epoch=progress.epoch,
                epochs=progress.epoch + 1 if progress.batch else epochs,
                shuffle=False,
                verbose=0,
                callbacks=[
                    tracked.recorder,
                    bar,
                    tracked.best,
                    *averaging,
                    *tracked.schedules,
                    checkpointing,
                ],
            )


def check_pairing(network: PhaseNetwork, batches: ImageBatches) -> None:
    """Compares Keras' loss and accuracy of each head on one batch with NumPy's.

    Some releases of Keras pair losses or metrics with the wrong head, without an error if heads
    have the same number of classes. The call also makes Keras build its metrics and its optimizer,
    so that `fit` traces the training step once instead of twice.

    Args:
        network: A compiled network.
        batches: The batches; only the first one is used.

    Raises:
        TrainingError: If the values differ: install the locked version of Keras.
    """
    network.optimizer.build(network.trainable_variables)
    images, y_true, weights = batches[0]
    with _eagerly(network):
        reported = network.test_on_batch(images, y_true, weights, return_dict=True)
        y_prob = _predict(network, images)
    epsilon = keras.config.epsilon()
    for head, truth in y_true.items():
        probability = np.clip(y_prob[head], epsilon, 1)
        hits = probability.argmax(axis=1) == truth.argmax(axis=1)
        cross_entropies = -(truth * np.log(probability)).sum(axis=1)
        total = max(weights[head].sum(), epsilon)
        expected = {
            f"{head}_loss": (weights[head] * cross_entropies).sum() / total,
            f"{head}_accuracy": (weights[head] * hits).sum() / total,
        }
        # Keras computes the loss from logits, which are not clipped like probabilities.
        is_clipped = bool(
            (truth * probability).sum(axis=1)[weights[head] > 0].min(initial=1) < 1e-6
        )
        for name, value in expected.items():
            is_beyond = is_clipped and name.endswith("_loss") and reported[name] > value
            if not is_beyond and not np.isclose(reported[name], value, rtol=0.02, atol=0.02):
                raise TrainingError(
                    f"{name}: Keras {keras.__version__} pairs heads wrongly. Expected {value:.4f} "
                    f"on a batch. Received: {reported[name]:.4f}. Install the locked version."
                )


@contextlib.contextmanager
def _eagerly(network: keras.Model) -> Iterator[None]:
    """Runs the network eagerly in the block, except on JAX.

    TensorFlow takes five times as long to trace a network as to run it once. JAX would compile each
    operation separately, which takes 92 s for a residual network of 8 blocks on an H100.
    """
    if keras.backend.backend() == "jax":
        yield
        return
    network.run_eagerly = True
    try:
        yield
    finally:
        network.run_eagerly = False
        network.test_function = None  # drop the eager function


def _predict(network: keras.Model, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """Predicts one batch: compiled on JAX, else eagerly and on one device."""
    if keras.backend.backend() == "jax":
        compiled: dict[str, npt.NDArray[Any]] = network.predict_on_batch(images)
        return compiled
    y_prob = network(images, training=False)
    return {head: keras.ops.convert_to_numpy(value) for head, value in y_prob.items()}
