"""Trains one phase, from the weights of the one before to the best weights of its own."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from person_attributes.config import PhaseParams, TrainingParams
from person_attributes.data.batches import ImageBatches
from person_attributes.errors import TrainingError
from person_attributes.modeling.classifier import freeze

EpochListener = Callable[[int, Mapping[str, float]], None]
"""Told the number of an epoch, from 0, and its figures when it ends."""


@dataclass(frozen=True)
class TrainedPhase:
    """What a phase did.

    Attributes:
        history: Figures of each epoch, in order.
        best_epoch: The epoch whose weights were kept: the one of least validation loss.
    """

    history: list[dict[str, float]]
    best_epoch: int


def train_phase(
    classifier: keras.Model,
    train: ImageBatches,
    validation: ImageBatches,
    phase: PhaseParams,
    training: TrainingParams,
    checkpoint: Path,
    listeners: list[EpochListener],
) -> TrainedPhase:
    """Trains and leaves the weights of the best epoch in `checkpoint`.

    The recipe is the article's: Adam, categorical cross-entropy and accuracy per head, a lower
    rate on a plateau, an early stop, and the weights of the least validation loss.

    Args:
        classifier: The network with the weights to start from.
        train: Training batches.
        validation: Validation batches.
        phase: What this phase trains, at which rate, and for how many epochs.
        training: What all phases share.
        checkpoint: The `.weights.h5` file to write; it holds the optimizer's state too.
        listeners: Told after each epoch.

    Returns:
        The figures of each epoch.

    Raises:
        TrainingError: If the loss is not finite: lower the phase's learning rate. If Keras pairs
            heads wrongly: install the locked version.
    """
    freeze(classifier, phase.trainable)
    compile_classifier(classifier, phase.learning_rate, training.jit_compile)
    check_pairing(classifier, validation)
    recorder = _Recorder(train, listeners)
    classifier.fit(
        train,
        validation_data=validation,
        epochs=phase.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            recorder,
            _ProgressBar(train, phase.epochs),
            keras.callbacks.ModelCheckpoint(
                str(checkpoint), monitor="val_loss", save_best_only=True, save_weights_only=True
            ),
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
        ],
    )
    losses = [epoch["val_loss"] for epoch in recorder.history]
    return TrainedPhase(recorder.history, best_epoch=losses.index(min(losses)))


def compile_classifier(classifier: keras.Model, learning_rate: float, jit_compile: bool) -> None:
    """Gives every head categorical cross-entropy and accuracy, and the network Adam."""
    heads = list(classifier.output)
    classifier.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=dict.fromkeys(heads, "categorical_crossentropy"),
        metrics={head: ["accuracy"] for head in heads},
        jit_compile=jit_compile,
    )


def check_pairing(classifier: keras.Model, batches: ImageBatches) -> None:
    """Holds Keras' loss and accuracy of each head on one batch against NumPy's.

    Some releases of Keras pair losses or metrics with the wrong head, and nothing raises where
    heads have as many classes. It also lets Keras build its metrics, so that `fit` traces the
    training step once instead of twice.

    Args:
        classifier: A compiled network.
        batches: The first batch is looked at.

    Raises:
        TrainingError: If they differ; names the head.
    """
    classifier.optimizer.build(classifier.trainable_variables)
    logs = classifier.evaluate(batches, steps=1, return_dict=True, verbose=0)
    said = _name_figures(logs, list(classifier.output))
    images, y_true = batches[0]
    y_prob = classifier(images, training=False)
    for head, truth in y_true.items():
        probability = np.clip(keras.ops.convert_to_numpy(y_prob[head]), 1e-7, 1)
        expected = {
            f"{head}_loss": -(truth * np.log(probability)).sum(axis=1).mean(),
            f"{head}_accuracy": (probability.argmax(axis=1) == truth.argmax(axis=1)).mean(),
        }
        for name, value in expected.items():
            if not np.isclose(said[name], value, rtol=0.02, atol=0.02):
                raise TrainingError(
                    f"{name}: Keras {keras.__version__} says {said[name]:.4f} on a batch. Expected "
                    f"{value:.4f}. It pairs heads wrongly: install the version of the lock file."
                )


class _Recorder(keras.callbacks.Callback):
    """Tells the batches their epoch, refuses a loss that is not finite, and passes figures on."""

    def __init__(self, train: ImageBatches, listeners: list[EpochListener]) -> None:
        super().__init__()
        self.history: list[dict[str, float]] = []
        self._train = train
        self._listeners = listeners
        self._began = 0.0
        self._trained = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._train.epoch = epoch
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._trained = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        figures = _add_means(_name_figures(logs, list(self.model.output)))
        for name in ("loss", "val_loss"):
            if not math.isfinite(figures[name]):
                raise TrainingError(
                    f"epoch {epoch + 1}: {name} is {figures[name]}. Expected a finite number. "
                    "Lower the phase's learning_rate in params.yaml."
                )
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        figures["learning_rate"] = float(rate)
        self.history.append(figures)
        seconds = max(self._trained - self._began, 1e-9)
        told = figures | {"images_per_second": self._train.rows / seconds}
        for listener in self._listeners:
            listener(epoch, told)


def _name_figures(logs: Mapping[str, Any], heads: Sequence[str]) -> dict[str, float]:
    """Names figures by head; where there is one head alone, Keras leaves its name out."""
    figures = {name: float(value) for name, value in logs.items()}
    if len(heads) == 1:
        for prefix in ("", "val_"):
            if f"{prefix}loss" in figures:
                figures[f"{prefix}{heads[0]}_loss"] = figures[f"{prefix}loss"]
                figures[f"{prefix}{heads[0]}_accuracy"] = figures.pop(f"{prefix}accuracy")
    return figures


def _add_means(figures: dict[str, float]) -> dict[str, float]:
    """Adds the mean accuracy over heads."""
    for prefix in ("", "val_"):
        accuracies = [
            value
            for name, value in figures.items()
            if name.endswith("_accuracy") and name.startswith("val_") == bool(prefix)
        ]
        figures[f"{prefix}mean_accuracy"] = sum(accuracies) / len(accuracies)
    return figures


class _ProgressBar(keras.callbacks.Callback):
    """Draws a bar inside each epoch, on terminals only."""

    def __init__(self, train: ImageBatches, epochs: int) -> None:
        super().__init__()
        self._train = train
        self._epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._bar = tqdm(
            total=self._train.rows,
            desc=f"epoch {epoch + 1}/{self._epochs}",
            unit="image",
            leave=False,
            disable=None,
        )

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._bar.update(min(self._train.batch_size, self._train.rows - self._bar.n))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._bar.close()
