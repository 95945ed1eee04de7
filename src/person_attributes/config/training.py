"""Sections on training: what is done to images, how rates move, what is minimised, phase by phase.

Phases name policies, optimizers, schedules and losses, each of them a section under its own name.
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
"""One augmenter: its name, and its arguments."""


class AugmentationParams(Section):
    """One augmentation policy.

    `augmenters` are those of imgaug, applied in order, and `RandomErasing`; a list of two numbers
    is a range to draw from. Then a share `mix_share` of all batches is mixed with itself in another
    order: blended, with a weight drawn from Beta(`mixup`, `mixup`), or with a box of the other
    image pasted in, its share drawn from Beta(`cutmix`, `cutmix`). Zero leaves a way out; a coin
    decides where both are left.
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
    """What all optimizers share.

    `clip_norm` is the largest norm of all gradients together, 0 clips nothing. Gradients of
    `accumulate` batches make one step. Validation and the weights that are kept take the
    exponential moving average of the weights where `ema_momentum` is above 0.
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
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), of kernels alone."""

    kind: Literal["adamw"]
    beta_1: BelowOne
    beta_2: BelowOne
    epsilon: Positive
    weight_decay: NotNegative


class SgdParams(_OptimizerParams):
    """Gradient descent with momentum, and decoupled weight decay of kernels alone."""

    kind: Literal["sgd"]
    momentum: BelowOne
    nesterov: bool
    weight_decay: NotNegative


OptimizerParams = Annotated[AdamParams | AdamWParams | SgdParams, Field(discriminator="kind")]


class ConstantParams(Section):
    """The phase's learning rate, all along."""

    kind: Literal["constant"]


class PlateauParams(Section):
    """Lowers the learning rate when the validation loss stands still."""

    kind: Literal["plateau"]
    factor: Between
    patience: Count
    min_delta: NotNegative
    min_learning_rate: NotNegative


class CosineParams(Section):
    """Half a cosine down to `final_share` of the rate, after `warmup_epochs` of a straight rise.

    Loshchilov and Hutter 2017, without restarts; the warm-up is that of Goyal et al. 2017.
    """

    kind: Literal["cosine"]
    warmup_epochs: NotNegative
    final_share: Share


class OneCycleParams(Section):
    """Up to the phase's rate and far below the start, once a phase (Smith and Topin 2018).

    Rises over `warmup_share` of the phase from the rate divided by `start_divisor`, then falls to
    that divided by `final_divisor`, both along half a cosine.
    """

    kind: Literal["one_cycle"]
    warmup_share: Between
    start_divisor: Annotated[float, Field(ge=1)]
    final_divisor: Annotated[float, Field(ge=1)]


class _CyclicalParams(Section):
    """What cyclical rates share: from the phase's rate divided by `divisor` up to it, and back."""

    divisor: Annotated[float, Field(ge=1)]
    cycle_epochs: Positive


class TriangularParams(_CyclicalParams):
    """Straight up and down, again and again (Smith 2017)."""

    kind: Literal["triangular"]


class Triangular2Params(_CyclicalParams):
    """The same, half as high each time (Smith 2017)."""

    kind: Literal["triangular2"]


class ExpRangeParams(_CyclicalParams):
    """The same, the height multiplied by `decay` each epoch (Smith 2017, there each batch)."""

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
    """What a phase minimises; the `loss` that is told stays the plain sum of cross-entropies.

    `head_weighting`: `fixed` multiplies each head's loss by its number in `head_weights`, 1 where
    it has none; `learned` weighs heads by their uncertainty (Kendall et al. 2018), beside those.
    `label_smoothing` gives that share of each label to all classes (Szegedy et al. 2016).
    `focal_gamma` plays down what is easy (Lin et al. 2017); 0 does not. `class_balance` is the beta
    of class-balanced weights (Cui et al. 2019); 0 weighs classes alike, near 1 by one over their
    number of training rows.
    """

    head_weighting: Literal["fixed", "learned"]
    head_weights: dict[str, Positive]
    label_smoothing: BelowOne
    focal_gamma: NotNegative
    class_balance: BelowOne


class EarlyStoppingParams(Section):
    """Ends a phase when the validation loss stands still."""

    patience: Count
    min_delta: NotNegative


class TrainingParams(Section):
    """What all phases share.

    `precision` is what layers compute in; weights stay float32. `jit_compile` and `deterministic`
    are for GPUs: XLA, and operations that repeat to the bit. A head whose validation loss ends less
    than `min_prior_improvement` of it below the loss of the class shares is said to have learned nothing.
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
    """One link of the training chain.

    `trainable` is `all`, the `heads` on a frozen backbone, or a number between 0 and 1: the heads
    and that share of the backbone's layers, the last ones.
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
    """One phase with everything that it names."""

    phase: PhaseParams
    augmentation: AugmentationParams
    loss: LossParams
    optimizer: OptimizerParams
    schedule: ScheduleParams
    training: TrainingParams


class LearningRateFinderParams(Section):
    """The range test (Smith 2017): rates rise from `lowest` to `highest` over some batches.

    Losses are smoothed with momentum `smoothing`; a loss of `divergence` times the least ends it.
    """

    lowest: Positive
    highest: Positive
    batches: Annotated[int, Field(ge=10)]
    smoothing: BelowOne
    divergence: Annotated[float, Field(gt=1)]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError("lowest is not below highest; lower the one or raise the other")
        return self


Devices = Literal["one", "all", "hosts"]
"""Who trains a phase."""


class RuntimeParams(Section):
    """How training runs here; nothing in it can change a result, and no stage depends on it.

    `devices` is one, all of this machine, or those of all hosts that the variable `TF_CONFIG`
    names. `workers` are processes that make batches ahead, 0 is a thread. `tracking_minutes` is
    how long the end of a phase waits for a tracking server that does not answer.
    """

    devices: Devices
    workers: Annotated[int, Field(ge=0, le=1024)]
    checkpoint_minutes: NotNegative
    tracking_minutes: NotNegative
