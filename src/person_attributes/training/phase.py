"""Trains one phase, from the weights of the one before to the best weights of its own."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from person_attributes.config import PhaseParams, TrainingParams
from person_attributes.data.batches import ImageBatches
from person_attributes.errors import TrainingError
from person_attributes.modeling.classifier import freeze
from person_attributes.training.callbacks import (
    BestWeights,
    EpochListener,
    ProgressBar,
    Recorder,
    name_figures,
)
from person_attributes.training.features import cache_features, split_off_towers
from person_attributes.training.optimizer import FlatAdam
from person_attributes.training.resume import Backup, Keeper, Progress, Signals

_OUT_OF_MEMORY = (
    "RESOURCE_EXHAUSTED",
    "ResourceExhausted",
    "OutOfMemory",
    "out of memory",
    "allocate memory",
)
"""How the backends name it; each has an exception of its own."""


@dataclass(frozen=True)
class TrainedPhase:
    """What a phase did.

    Attributes:
        history: Figures of each epoch, in order.
        best_epoch: The epoch whose weights were kept, from 0: the one of least validation loss.
    """

    history: list[dict[str, float]]
    best_epoch: int


def train_phase(
    classifier: keras.Model,
    train: ImageBatches,
    validation: ImageBatches,
    phase: PhaseParams,
    training: TrainingParams,
    backup: Backup,
    listeners: Sequence[EpochListener],
) -> TrainedPhase:
    """Trains, from the backup where there is one, and leaves the best weights in the network.

    The recipe is the article's: Adam, categorical cross-entropy and accuracy per head, a lower
    rate on a plateau, an early stop, and the weights of the least validation loss. Where the
    backbone is frozen and nothing is augmented, its features are computed once.

    Args:
        classifier: The network with the weights to start from; it holds the best ones after.
        train: Training batches.
        validation: Validation batches.
        phase: What this phase trains, at which rate, and for how many epochs.
        training: What all phases share.
        backup: Where a phase that was stopped goes on from.
        listeners: Told after each epoch.

    Returns:
        The figures of each epoch.

    Raises:
        StoppedError: If Ctrl-C or SIGTERM came: it is backed up; run it again to go on.
        TrainingError: If the loss is not finite: lower the phase's learning rate. If the memory or
            the disk is full: the message says what to lower or to free. If Keras pairs heads
            wrongly: install the locked version.
    """
    freeze(classifier, phase.trainable)
    progress = backup.read()
    is_cached = has_constant_features(phase, train)
    network = split_off_towers(classifier) if is_cached else classifier
    if not progress.is_complete:
        with _telling_out_of_memory(backup.phase, phase, training):
            if is_cached:
                path = backup.folder / "features.npy"
                train, validation = cache_features(classifier, train, validation, path)
            progress = _fit(
                network,
                train,
                validation,
                phase,
                training,
                backup,
                progress,
                listeners,
            )
    assert progress.best_epoch is not None, "a complete phase has trained an epoch"
    network.set_weights(progress.arrays["best"])
    return TrainedPhase(progress.history, progress.best_epoch)


def has_constant_features(phase: PhaseParams, train: ImageBatches) -> bool:
    """Says whether the backbone says the same of every image in every epoch."""
    return phase.trainable == "heads" and not train.is_augmented


def _fit(
    network: keras.Model,
    train: ImageBatches,
    validation: ImageBatches,
    phase: PhaseParams,
    training: TrainingParams,
    backup: Backup,
    progress: Progress,
    listeners: Sequence[EpochListener],
) -> Progress:
    """Runs `fit`, once, or twice where the backup lies inside an epoch; gives the end of it."""
    compile_classifier(network, phase.learning_rate, training.jit_compile)
    check_pairing(network, validation)
    recorder, best, signals = Recorder(train, listeners), BestWeights(), Signals()
    schedules = [
        keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss",
            factor=training.plateau.factor,
            patience=training.plateau.patience,
            min_delta=training.plateau.min_delta,
            min_lr=training.plateau.min_learning_rate,
        ),
        keras.callbacks.EarlyStopping(
            monitor="val_loss",
            patience=training.early_stopping.patience,
            min_delta=training.early_stopping.min_delta,
        ),
    ]
    keeper = Keeper(
        network,
        train,
        recorder,
        best,
        schedules,
        backup,
        progress,
        phase.epochs,
        signals,
    )
    bar = ProgressBar(train, phase.epochs)
    with signals.listening():
        while not progress.is_complete:
            # Keras counts the batches of an epoch once a fit: a begun epoch is a fit of its own.
            train.first_batch = progress.batch
            network.fit(
                train,
                validation_data=validation,
                initial_epoch=progress.epoch,
                epochs=progress.epoch + 1 if progress.batch else phase.epochs,
                shuffle=False,
                verbose=0,
                callbacks=[recorder, bar, best, *schedules, keeper],
            )
    signals.stop_if_told(backup.phase, "at its end")
    return progress


def compile_classifier(classifier: keras.Model, learning_rate: float, jit_compile: bool) -> None:
    """Gives every head categorical cross-entropy and accuracy, and the network Adam."""
    heads = list(classifier.output)
    classifier.compile(
        optimizer=FlatAdam(learning_rate),
        loss=dict.fromkeys(heads, "categorical_crossentropy"),
        weighted_metrics={head: ["accuracy"] for head in heads},
        jit_compile=jit_compile,
    )


def check_pairing(classifier: keras.Model, batches: ImageBatches) -> None:
    """Holds Keras' loss and accuracy of each head on one batch against NumPy's.

    Some releases of Keras pair losses or metrics with the wrong head, and nothing raises where
    heads have as many classes. It also lets Keras build its metrics and its optimizer, so that
    `fit` traces the training step once instead of twice. The batch is computed eagerly: tracing
    a network to run it once takes five times as long.

    Args:
        classifier: A compiled network.
        batches: The first batch is looked at.

    Raises:
        TrainingError: If they differ; names the head.
    """
    classifier.optimizer.build(classifier.trainable_variables)
    images, y_true, weights = batches[0]
    with _eagerly(classifier):
        logs = classifier.test_on_batch(images, y_true, weights, return_dict=True)
    said = name_figures(logs, list(classifier.output))
    y_prob = classifier(images, training=False)
    for head, truth in y_true.items():
        probability = np.clip(keras.ops.convert_to_numpy(y_prob[head]), 1e-7, 1)
        hits = probability.argmax(axis=1) == truth.argmax(axis=1)
        expected = {
            f"{head}_loss": -(weights[head] * (truth * np.log(probability)).sum(axis=1)).mean(),
            f"{head}_accuracy": (weights[head] * hits).sum() / max(weights[head].sum(), 1e-7),
        }
        # Keras takes the loss from logits, which go on where a probability ends at zero.
        is_clipped = bool(
            (truth * probability).sum(axis=1)[weights[head] > 0].min(initial=1) < 1e-6
        )
        for name, value in expected.items():
            is_beyond = is_clipped and name.endswith("_loss") and said[name] > value
            if not is_beyond and not np.isclose(said[name], value, rtol=0.02, atol=0.02):
                raise TrainingError(
                    f"{name}: Keras {keras.__version__} says {said[name]:.4f} on a batch. Expected "
                    f"{value:.4f}. It pairs heads wrongly: install the version of the lock file."
                )


@contextlib.contextmanager
def _eagerly(classifier: keras.Model) -> Iterator[None]:
    """Runs the network operation by operation in the block."""
    classifier.run_eagerly = True
    try:
        yield
    finally:
        classifier.run_eagerly = False
        classifier.test_function = None  # Keras would keep the eager one


@contextlib.contextmanager
def _telling_out_of_memory(
    name: str, phase: PhaseParams, training: TrainingParams
) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if not isinstance(error, MemoryError) and not any(word in text for word in _OUT_OF_MEMORY):
            raise
        raise TrainingError(
            f"{name}: out of memory with batches of {training.batch_size} images of "
            f"{phase.image_size} px. Lower training.batch_size, or the phase's image_size, and run "
            "dvc repro. The last backup stays."
        ) from None
