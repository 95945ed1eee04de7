"""Sections for training: augmentation, losses, optimizers, schedules and phases.

A phase names an augmentation policy, a loss, an optimizer and a schedule. Each of these is a
section of its own.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from person_attributes.config.fields import (
    FROM_LIST,
    BelowOne,
    Between,
    Count,
    Identifier,
    ImageSize,
    NotNegative,
    Positive,
    Section,
    Share,
)

AugmenterParams = Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]
"""One augmenter: `{name: arguments}`."""


class AugmentationParams(Section):
    """One augmentation policy.

    `augmenters` are imgaug augmenters and `RandomErasing`, applied in order. A list of two numbers
    is a range to sample from. Then the share `mix_share` of batches is mixed with a permutation of
    itself. MixUp blends images with a weight drawn from Beta(`mixup`, `mixup`). CutMix pastes a box
    whose share is drawn from Beta(`cutmix`, `cutmix`). 0 turns either off; if both are on, each
    mixed batch uses one of them, with equal probability.
    """

    augmenters: Annotated[tuple[AugmenterParams, ...], FROM_LIST]
    mixup: NotNegative
    cutmix: NotNegative
    mix_share: Share

    @property
    def mixes(self) -> bool:
        """Whether any batch is mixed."""
        return self.mix_share > 0 and (self.mixup > 0 or self.cutmix > 0)

    @property
    def is_identity(self) -> bool:
        """Whether the policy leaves every image as it is."""
        return not self.augmenters and not self.mixes


class _OptimizerParams(Section):
    """Base of all optimizers.

    `clip_norm` is the largest global norm of the gradients; 0 turns clipping off. One step uses the
    gradients of `accumulate` batches. If `ema_momentum` is above 0, validation and the saved
    weights use the exponential moving average of the weights.
    """

    clip_norm: NotNegative
    accumulate: Count
    ema_momentum: BelowOne


class AdamParams(_OptimizerParams):
    """Adam (Kingma and Ba 2015)."""

    kind: Literal["adam"]
    beta_1: BelowOne
    beta_2: BelowOne
    epsilon: Positive


class AdamWParams(_OptimizerParams):
    """Adam with decoupled weight decay of kernels only (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"]
    beta_1: BelowOne
    beta_2: BelowOne
    epsilon: Positive
    weight_decay: NotNegative


class SgdParams(_OptimizerParams):
    """Gradient descent with momentum and decoupled weight decay of kernels only."""

    kind: Literal["sgd"]
    momentum: BelowOne
    nesterov: bool
    weight_decay: NotNegative


OptimizerParams = Annotated[AdamParams | AdamWParams | SgdParams, Field(discriminator="kind")]


class ConstantParams(Section):
    """A constant learning rate."""

    kind: Literal["constant"]


class PlateauParams(Section):
    """Reduces the learning rate when the validation loss stops improving."""

    kind: Literal["plateau"]
    factor: Between
    patience: Count
    min_delta: NotNegative
    min_learning_rate: NotNegative


class CosineParams(Section):
    """Linear warm-up over `warmup_epochs`, then cosine decay to `final_share` of the rate.

    Loshchilov and Hutter 2017, without restarts; warm-up as in Goyal et al. 2017.
    """

    kind: Literal["cosine"]
    warmup_epochs: NotNegative
    final_share: Share


class OneCycleParams(Section):
    """One cycle per phase (Smith and Topin 2018).

    The rate starts at the phase's learning rate divided by `start_divisor`. It rises to the phase's
    learning rate over `warmup_share` of the phase, then falls to the start divided by
    `final_divisor`. Both follow half a cosine.
    """

    kind: Literal["one_cycle"]
    warmup_share: Between
    start_divisor: Annotated[float, Field(ge=1)]
    final_divisor: Annotated[float, Field(ge=1)]


class _CyclicalParams(Section):
    """Base of cyclical rates between the phase's learning rate divided by `divisor` and itself."""

    divisor: Annotated[float, Field(ge=1)]
    cycle_epochs: Positive


class TriangularParams(_CyclicalParams):
    """Linear rise and fall in each cycle (Smith 2017)."""

    kind: Literal["triangular"]


class Triangular2Params(_CyclicalParams):
    """Like `triangular`, with half the amplitude in each following cycle (Smith 2017)."""

    kind: Literal["triangular2"]


class ExpRangeParams(_CyclicalParams):
    """Like `triangular`, the amplitude multiplied by `decay` every epoch.

    Smith 2017 multiplies it every batch.
    """

    kind: Literal["exp_range"]
    decay: Annotated[float, Field(gt=0, le=1)]


ScheduleParams = Annotated[
    ConstantParams
    | PlateauParams
    | CosineParams
    | OneCycleParams
    | TriangularParams
    | Triangular2Params
    | ExpRangeParams,
    Field(discriminator="kind"),
]


class LossParams(Section):
    """The objective of a phase; the reported `loss` is always the plain sum of cross-entropies.

    `head_weighting`: `fixed` multiplies the loss of each head by its number in `head_weights`, or
    by 1 if it has none. `learned` also weights heads by their uncertainty (Kendall et al. 2018).
    `label_smoothing` is the share of each label that is spread over all classes (Szegedy et al.
    2016). `focal_gamma` is the gamma of the focal loss (Lin et al. 2017); 0 turns it off.
    `class_balance` is the beta of class-balanced weights (Cui et al. 2019); 0 weights all classes
    equally, and values near 1 weight them by their inverse number of training rows.
    """

    head_weighting: Literal["fixed", "learned"]
    head_weights: dict[str, Positive]
    label_smoothing: BelowOne
    focal_gamma: NotNegative
    class_balance: BelowOne


class EarlyStoppingParams(Section):
    """Ends a phase when the validation loss stops improving."""

    patience: Count
    min_delta: NotNegative


class TrainingParams(Section):
    """Settings of all phases.

    `precision` is the data type in which layers compute; weights are always float32. On GPUs,
    `jit_compile` turns on XLA, and `deterministic` makes operations reproducible bit by bit. A head
    is reported as no better than the class prior if its validation loss is less than the share
    `min_prior_improvement` below the loss of the prior.
    """

    precision: Literal["float32", "bfloat16", "float16"]
    jit_compile: bool
    deterministic: bool
    min_prior_improvement: Share
    early_stopping: EarlyStoppingParams


def _check_trainable(value: Any) -> Any:
    if value in ("all", "heads") or (isinstance(value, float) and 0 < value < 1):
        return value
    raise ValueError(f"expected all, heads, or a share between 0 and 1. Received: {value!r}")


class PhaseParams(Section):
    """One phase of training.

    `trainable` is `all`, `heads` for a frozen backbone, or a number between 0 and 1: the heads and
    that share of the backbone's layers, counted from the last one.
    """

    starts_from: Identifier
    image_size: ImageSize
    batch_size: Count
    trainable: Annotated[Literal["all", "heads"] | float, BeforeValidator(_check_trainable)]
    augmentation: str
    loss: str
    optimizer: str
    schedule: str
    learning_rate: Positive
    epochs: Count


@dataclass(frozen=True)
class Recipe:
    """A phase with the sections that it names."""

    phase: PhaseParams
    augmentation: AugmentationParams
    loss: LossParams
    optimizer: OptimizerParams
    schedule: ScheduleParams
    training: TrainingParams


class LearningRateFinderParams(Section):
    """The learning-rate range test (Smith 2017).

    The rate rises from `lowest` to `highest` over `batches` batches. Losses are smoothed with
    momentum `smoothing`. The test ends when the loss exceeds `divergence` times the lowest loss.
    """

    lowest: Positive
    highest: Positive
    batches: Annotated[int, Field(ge=10)]
    smoothing: BelowOne
    divergence: Annotated[float, Field(gt=1)]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError("lowest must be below highest; lower lowest or raise highest")
        return self


Devices = Literal["one", "all", "hosts"]
"""Which devices train a phase."""


class RuntimeParams(Section):
    """How training runs on this machine; no stage depends on it.

    It affects the duration. `devices` other than `one` also change rounding and dropout.

    `devices` is `one`, `all` of this machine, or those of all `hosts` in the environment variable
    `TF_CONFIG`. `workers` is the number of processes that prepare batches; 0 uses a thread.
    `checkpoint_minutes` is the time between checkpoints. `tracking_minutes` is how long the end of
    a phase waits for a tracking server that does not respond.
    """

    devices: Devices
    workers: Annotated[int, Field(ge=0, le=1024)]
    checkpoint_minutes: NotNegative
    tracking_minutes: NotNegative
