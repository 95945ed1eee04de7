"""Trains several networks on one GPU, with all images in its memory and whole epochs in JAX.

An epoch is one call: it augments, asks teachers, and updates each network in turn. The update is
that of `recipes/hvc_best.yaml`: SGD with Nesterov momentum, clipping, decoupled weight decay, an
average of the weights, one cosine, and learned loss weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
import numpy.typing as npt
from jax.tree_util import register_dataclass

from experiments.device_augmentation import Policy, augment
from person_attributes.config.training import CosineParams, PhaseParams, SgdParams
from person_attributes.data.images import Images
from person_attributes.evaluation.metrics import SMALLEST_PROBABILITY, cross_entropy, sum_up

Answers = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Member:
    """A network that trains.

    Attributes:
        name: Its name in the output.
        seed: Seed of its weights; that of the first member also shuffles and augments.
        weight_decay: Decoupled decay of its kernels.
        share: Share of each label that the mean answer of the teachers replaces, in 0 to 1.
    """

    name: str
    seed: int
    weight_decay: float
    share: float = 0.0


class State(NamedTuple):
    """Weights of a network, the state of its optimizer, and the averages of its weights."""

    trained: list[Any]
    fixed: list[Any]
    log_variances: dict[str, Any]
    velocity: tuple[list[Any], dict[str, Any]]
    mean_trained: list[Any]
    mean_fixed: list[Any]


@dataclass
class Best:
    """The epoch of a network with the lowest validation loss."""

    metrics: dict[str, float]
    answers: Answers
    weights: tuple[list[Any], list[Any]]


@partial(register_dataclass, data_fields=["weights"], meta_fields=["classifier"])
@dataclass(frozen=True)
class Teachers:
    """Networks whose mean answer others learn.

    Attributes:
        classifier: The graph of all teachers. Its images may have another size.
        weights: Their weights, `(trained, fixed)`, stacked.
    """

    classifier: keras.Model
    weights: Any


@dataclass(frozen=True)
class Settings:
    """The settings that all networks share."""

    phase: PhaseParams
    optimizer: SgdParams
    schedule: CosineParams


@dataclass
class Trainer:
    """Trains networks with the graph of one classifier.

    Attributes:
        classifier: The graph of all networks; its weights are overwritten by `assign`.
        images: All images, (n, height, width, 3) uint8.
        targets: One-hot labels of all images, without missing ones.
        train: Positions of the training rows.
        validation: Positions of the validation rows.
        settings: Batch size, rates and optimizer.
    """

    classifier: keras.Model
    images: Images
    targets: Mapping[str, npt.NDArray[np.float32]]
    train: npt.NDArray[np.intp]
    validation: npt.NDArray[np.intp]
    settings: Settings
    _data: tuple[Any, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        targets = {head: jnp.asarray(target) for head, target in self.targets.items()}
        self._data = jnp.asarray(self.images), targets
        self._is_kernel = [
            variable.name == "kernel" for variable in self.classifier.trainable_variables
        ]
        self._epoch = jax.jit(self._run_epoch, donate_argnums=0)
        self._answer = jax.jit(self._average_flips)

    @property
    def image_size(self) -> str:
        """Height and width of the images, as in `params.yaml`."""
        return f"{self.images.shape[1]}x{self.images.shape[2]}"

    @property
    def steps(self) -> int:
        """Batches per epoch; only whole ones, the rest of a shuffled epoch is left out."""
        return len(self.train) // self.settings.phase.batch_size

    def start(self, network: keras.Model) -> State:
        """Returns the state of a network with random weights, before its first epoch."""
        trained = [jnp.array(variable.value) for variable in network.trainable_variables]
        fixed = [jnp.array(variable.value) for variable in network.non_trainable_variables]
        log_variances = {head: jnp.zeros(()) for head in self.targets}
        velocity = [jnp.zeros_like(weight) for weight in trained], dict(log_variances)
        # The epoch overwrites its arguments, so no two of them share memory.
        copies = [jnp.array(weight) for weight in trained], [jnp.array(weight) for weight in fixed]
        return State(trained, fixed, log_variances, velocity, *copies)

    def run_epoch(
        self,
        states: State,
        teachers: Teachers | None,
        order: npt.NDArray[np.intp],
        key: Any,
        progress: tuple[int, int],
        members: Sequence[Member],
        policy: Policy,
    ) -> tuple[State, Any]:
        """Trains stacked states for an epoch.

        Args:
            states: The states of all members, stacked; their memory is reused.
            teachers: The teachers; None: labels alone.
            order: Shuffled positions of the training rows.
            key: The key of the augmentation.
            progress: The epoch, from 0, and the number of epochs.
            members: The settings of each network.
            policy: The augmentation.

        Returns:
            The new states, and each network's training loss, the sum of cross-entropies.
        """
        batches = order[: self.steps * self.settings.phase.batch_size].reshape(self.steps, -1)
        first, total = (jnp.float32(epoch * self.steps) for epoch in progress)
        each = {
            name: jnp.array([getattr(member, name) for member in members], jnp.float32)
            for name in ("weight_decay", "share")
        }
        ranges = {name: jnp.float32(value) for name, value in policy.items()}
        batches = jnp.asarray(batches)
        trained: tuple[State, Any] = self._epoch(
            states, self._data, teachers, batches, key, (first, total), each, ranges
        )
        return trained

    def _run_epoch(
        self,
        states: State,
        data: tuple[Any, dict[str, Any]],
        teachers: Teachers | None,
        batches: Any,
        key: Any,
        progress: tuple[Any, Any],
        each: dict[str, Any],
        policy: Policy,
    ) -> tuple[State, Any]:
        first, total = progress

        def step(states: State, inputs: tuple[Any, Any, Any]) -> tuple[State, Any]:
            rows, key, number = inputs
            images = augment(key, data[0][rows], policy)
            labels = {head: target[rows] for head, target in data[1].items()}
            answers = labels if teachers is None else _ask(teachers, images)
            rate = self._compute_rate(number, total)
            updated: tuple[State, Any] = jax.lax.map(
                lambda pair: self._update(pair[0], pair[1], images, labels, answers, rate, number),
                (states, each),
            )
            return updated

        numbers = first + jnp.arange(len(batches))
        inputs = batches, jax.random.split(key, len(batches)), numbers
        states, losses = jax.lax.scan(step, states, inputs)
        return states, losses.mean(0)

    def _compute_rate(self, number: Any, total: Any) -> Any:
        schedule = self.settings.schedule
        warm_up = schedule.warmup_epochs * self.steps
        progress = jnp.maximum(0.0, (number - warm_up) / (total - warm_up))
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * progress))
        decayed = schedule.final_share + (1 - schedule.final_share) * cosine
        return self.settings.phase.learning_rate * jnp.minimum((number + 1) / warm_up, decayed)

    def _update(
        self,
        state: State,
        member: Mapping[str, Any],
        images: Any,
        labels: Mapping[str, Any],
        answers: Mapping[str, Any],
        rate: Any,
        number: Any,
    ) -> tuple[State, Any]:
        """Trains one network on one batch; returns its state and the loss on the labels."""
        mixed = {
            head: (1 - member["share"]) * label + member["share"] * answers[head]
            for head, label in labels.items()
        }
        weights = state.trained, state.log_variances
        gradients, (fixed, loss) = jax.grad(self._objective, has_aux=True)(
            weights, state.fixed, images, mixed, labels
        )
        optimizer = self.settings.optimizer
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradients)))
        scale = rate * jnp.minimum(1.0, optimizer.clip_norm / (norm + 1e-6))
        momentum = optimizer.momentum
        velocity = jax.tree.map(lambda v, g: momentum * v - scale * g, state.velocity, gradients)
        trained, log_variances = jax.tree.map(
            lambda w, v, g: w + momentum * v - scale * g, weights, velocity, gradients
        )
        kept = 1 - rate * member["weight_decay"]
        trained = [
            weight * kept if is_kernel else weight
            for weight, is_kernel in zip(trained, self._is_kernel, strict=True)
        ]
        share = jnp.minimum(optimizer.ema_momentum, (1 + number) / (10 + number))
        means = (
            _average(share, state.mean_trained, trained),
            _average(share, state.mean_fixed, fixed),
        )
        return State(trained, fixed, log_variances, velocity, *means), loss

    def _objective(
        self,
        weights: tuple[list[Any], dict[str, Any]],
        fixed: list[Any],
        images: Any,
        mixed: Mapping[str, Any],
        labels: Mapping[str, Any],
    ) -> tuple[Any, tuple[list[Any], Any]]:
        trained, log_variances = weights
        y_prob, fixed = self.classifier.stateless_call(trained, fixed, images, training=True)
        total = sum(
            jnp.exp(-log_variances[head]) * _cross_entropy(mixed[head], y_prob[head])
            + log_variances[head] / 2
            for head in mixed
        )
        return total, (fixed, sum(_cross_entropy(labels[head], y_prob[head]) for head in labels))

    def _average_flips(self, trained: list[Any], fixed: list[Any], images: Any) -> dict[str, Any]:
        straight, mirrored = (
            self.classifier.stateless_call(trained, fixed, view, training=False)[0]
            for view in (images, images[:, :, ::-1])
        )
        return {
            head: (straight[head] + mirrored[head]).astype(jnp.float32) / 2 for head in straight
        }

    def answer_validation(self, trained: list[Any], fixed: list[Any]) -> Answers:
        """Answers the validation rows, each with its mirror image."""
        answers = self._answer(trained, fixed, self._data[0][self.validation])
        return {head: np.asarray(answer) for head, answer in answers.items()}

    def score(self, answers: Answers) -> dict[str, float]:
        """Scores answers for the validation rows: those of `sum_up`, and the loss of each head."""
        labels = {head: target[self.validation] for head, target in self.targets.items()}
        losses = {
            f"{head}_loss": float(cross_entropy(label, answers[head]))
            for head, label in labels.items()
        }
        return {**sum_up(labels, answers), **losses}

    def assign(self, weights: tuple[list[Any], list[Any]]) -> keras.Model:
        """Returns the classifier with the given weights."""
        variables = self.classifier.trainable_variables, self.classifier.non_trainable_variables
        for part, values in zip(variables, weights, strict=True):
            for variable, value in zip(part, values, strict=True):
                variable.assign(value)
        return self.classifier


def _ask(teachers: Teachers, images: Any) -> dict[str, Any]:
    """Returns the mean answer of the teachers for images, resized to their size."""
    classifier = teachers.classifier
    shape = (len(images), *classifier.input_shape[1:])
    if images.shape != shape:
        resized = jax.image.resize(images.astype(jnp.float32), shape, "linear", antialias=True)
        images = jnp.clip(jnp.round(resized), 0, 255).astype(jnp.uint8)
    answers = jax.lax.map(
        lambda each: classifier.stateless_call(*each, images, training=False)[0], teachers.weights
    )
    return {head: answer.astype(jnp.float32).mean(0) for head, answer in answers.items()}


def _cross_entropy(label: Any, y_prob: Any) -> Any:
    clipped = jnp.clip(jnp.asarray(y_prob, jnp.float32), SMALLEST_PROBABILITY, 1.0)
    return -(label * jnp.log(clipped)).sum(1).mean()


def _average(share: Any, means: list[Any], weights: list[Any]) -> list[Any]:
    """Moves averages towards the weights; the seeds of dropout are no numbers to average."""
    return [
        share * mean + (1 - share) * weight
        if jnp.issubdtype(weight.dtype, jnp.floating)
        else weight
        for mean, weight in zip(means, weights, strict=True)
    ]


def stack(trees: Sequence[Any]) -> Any:
    """Stacks states or weights of several networks."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


class Group:
    """Networks that train on the same batches.

    Attributes:
        members: The settings of each network.
        history: For each network, the metrics of each validated epoch.
        best: For each network, its best epoch.
    """

    def __init__(
        self,
        trainer: Trainer,
        members: Mapping[Member, keras.Model],
        policy: Policy,
        teachers: Teachers | None = None,
    ) -> None:
        self.members = list(members)
        self.history: list[list[dict[str, float]]] = [[] for _ in members]
        self.best: list[Best | None] = [None for _ in members]
        self._trainer, self._policy, self._teachers = trainer, policy, teachers
        self._states = stack([trainer.start(network) for network in members.values()])
        self._random = np.random.default_rng(self.members[0].seed)
        self._key = jax.random.key(self.members[0].seed)

    def run_epoch(self, epoch: int, epochs: int, *, validates: bool) -> None:
        """Trains all networks for an epoch."""
        trainer = self._trainer
        order = trainer.train[self._random.permutation(len(trainer.train))]
        key = jax.random.fold_in(self._key, epoch)
        self._states, losses = trainer.run_epoch(
            self._states,
            self._teachers,
            order,
            key,
            (epoch, epochs),
            self.members,
            self._policy,
        )
        if validates:
            for number, loss in enumerate(np.asarray(losses)):
                self._validate(number, {"epoch": epoch + 1, "training_loss": float(loss)})

    def _validate(self, number: int, described: dict[str, float]) -> None:
        means = self._states.mean_trained, self._states.mean_fixed
        weights = jax.tree.map(lambda leaf: leaf[number], means)
        answers = self._trainer.answer_validation(*weights)
        metrics = described | self._trainer.score(answers)
        self.history[number].append(metrics)
        best = self.best[number]
        if best is None or metrics["loss"] < best.metrics["loss"]:
            self.best[number] = Best(metrics, answers, weights)
