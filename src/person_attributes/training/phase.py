"""Trains one phase, from the weights of the one before to the best weights of its own."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from person_attributes.config import Recipe
from person_attributes.data.batches import ImageBatches
from person_attributes.errors import TrainingError, UntrainableError
from person_attributes.modeling.classifier import freeze
from person_attributes.runtime.checkpoint import Checkpoint, Progress
from person_attributes.runtime.devices import count_devices, share_batch_norms, translate_lost_hosts
from person_attributes.runtime.interrupts import Signals
from person_attributes.runtime.progress_bar import ProgressBar
from person_attributes.training.callbacks import BestWeights, EpochListener, Recorder
from person_attributes.training.features import cache_features, split_off_towers
from person_attributes.training.objective import PhaseNetwork, compile_network, make_losses
from person_attributes.training.optimizer import make_optimizer
from person_attributes.training.resume import CheckpointCallback
from person_attributes.training.schedules import make_plateau, make_schedule

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
    recipe: Recipe,
    checkpoint: Checkpoint,
    listeners: Sequence[EpochListener],
) -> TrainedPhase:
    """Trains, from the checkpoint where there is one, and leaves the best weights in the network.

    The weights of the least validation loss are kept, the averaged ones where the optimizer
    averages them. That loss is the plain sum of cross-entropies, whatever is minimised. Where the
    backbone is frozen and nothing is augmented, its features are computed once.

    Args:
        classifier: The network with the weights to start from; it holds the best ones after.
        train: Training batches.
        validation: Validation batches.
        recipe: What this phase trains, how, and for how many epochs.
        checkpoint: Where a phase that was stopped goes on from.
        listeners: Told after each epoch.

    Returns:
        The figures of each epoch.

    Raises:
        StoppedError: If Ctrl-C or SIGTERM came: it is backed up; run it again to go on.
        UntrainableError: If the loss is not finite: lower the phase's learning rate. If the memory
            does not suffice: the message says what to lower.
        TrainingError: If the disk is full: the message says what to free. If Keras pairs heads
            wrongly: install the locked version.
    """
    progress = checkpoint.read()
    is_cached = has_constant_features(recipe, train)
    network = make_network(classifier, train, recipe)
    if not progress.is_complete:
        with (
            _translate_out_of_memory(checkpoint.phase, recipe),
            translate_lost_hosts(checkpoint.phase),
        ):
            if is_cached:
                path = checkpoint.folder / "features.npy"
                train, validation = cache_features(classifier, train, validation, path)
            progress = _fit(
                network,
                train,
                validation,
                recipe,
                checkpoint,
                progress,
                listeners,
            )
    assert progress.best_epoch is not None, "a complete phase has trained an epoch"
    network.set_weights(progress.arrays["best"])
    return TrainedPhase(progress.history, progress.best_epoch)


def has_constant_features(recipe: Recipe, train: ImageBatches) -> bool:
    """Says whether the backbone says the same of every image in every epoch."""
    return recipe.phase.trainable == "heads" and not train.is_augmented


def make_network(classifier: keras.Model, train: ImageBatches, recipe: Recipe) -> PhaseNetwork:
    """Freezes what the phase says, and compiles what is left to train with its objective.

    Where features are constant, the network is the towers alone.
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


def _fit(
    network: PhaseNetwork,
    train: ImageBatches,
    validation: ImageBatches,
    recipe: Recipe,
    checkpoint: Checkpoint,
    progress: Progress,
    listeners: Sequence[EpochListener],
) -> Progress:
    """Runs `fit`, once, or twice where the checkpoint lies inside an epoch; gives the end of it."""
    epochs = recipe.phase.epochs
    check_pairing(network, validation)
    recorder, best, signals = Recorder(train, listeners), BestWeights(), Signals()
    averaging = [keras.callbacks.SwapEMAWeights()] if recipe.optimizer.ema_momentum else []
    stopping = recipe.training.early_stopping
    schedules = [
        *make_plateau(recipe.schedule),
        keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=stopping.patience, min_delta=stopping.min_delta
        ),
    ]
    checkpoint_callback = CheckpointCallback(
        network,
        train,
        recorder,
        best,
        schedules,
        checkpoint,
        progress,
        epochs,
        signals,
    )
    bar = ProgressBar(train, epochs)
    with signals.listening():
        while not progress.is_complete:
            # Keras counts the batches of an epoch once a fit: a begun epoch is a fit of its own.
            train.first_batch = progress.batch
            network.fit(
                train,
                validation_data=validation,
                initial_epoch=progress.epoch,
                epochs=progress.epoch + 1 if progress.batch else epochs,
                shuffle=False,
                verbose=0,
                callbacks=[recorder, bar, best, *averaging, *schedules, checkpoint_callback],
            )
    signals.raise_if_signalled(checkpoint.phase, "at its end")
    return progress


def check_pairing(network: PhaseNetwork, batches: ImageBatches) -> None:
    """Holds Keras' loss and accuracy of each head on one batch against NumPy's.

    Some releases of Keras pair losses or metrics with the wrong head, and nothing raises where
    heads have as many classes. It also lets Keras build its metrics and its optimizer, so that
    `fit` traces the training step once instead of twice.

    Args:
        network: Compiled.
        batches: The first batch is looked at.

    Raises:
        TrainingError: If they differ; names the head.
    """
    network.optimizer.build(network.trainable_variables)
    images, y_true, weights = batches[0]
    with _eagerly(network):
        said = network.test_on_batch(images, y_true, weights, return_dict=True)
        y_prob = network.predict_on_batch(images)
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
def _eagerly(network: keras.Model) -> Iterator[None]:
    """Runs the network operation by operation in the block, unless JAX computes it.

    TensorFlow takes five times as long to trace a network as to run it once. JAX would compile
    every operation by itself: a residual network of 8 blocks takes 92 s on an H100.
    """
    if keras.backend.backend() == "jax":
        yield
        return
    network.run_eagerly = True
    try:
        yield
    finally:
        network.run_eagerly = False
        network.test_function = network.predict_function = None  # Keras would keep the eager ones


@contextlib.contextmanager
def _translate_out_of_memory(name: str, recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if not isinstance(error, MemoryError) and not any(word in text for word in _OUT_OF_MEMORY):
            raise
        raise UntrainableError(
            f"{name}: out of memory with batches of {recipe.phase.batch_size} images of "
            f"{recipe.phase.image_size} px. Lower the phase's batch_size or image_size, and run "
            "dvc repro. The last checkpoint stays."
        ) from None
