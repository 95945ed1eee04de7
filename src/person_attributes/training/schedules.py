"""Learning rates as functions of the batch number, counted from 0 over the whole phase.

They are stateless: a phase that resumes inside an epoch continues with the same rate.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import CosineDecay, LearningRateSchedule

from person_attributes.config import ScheduleParams
from person_attributes.config.training import (
    CosineParams,
    ExpRangeParams,
    OneCycleParams,
    PlateauParams,
    Triangular2Params,
    TriangularParams,
)


def make_schedule(
    schedule: ScheduleParams, learning_rate: float, batches: int, epochs: int
) -> float | LearningRateSchedule:
    """Makes the learning rate of a phase.

    Args:
        schedule: Kind and parameters of the schedule.
        learning_rate: The highest rate.
        batches: Batches per epoch.
        epochs: Epochs of the phase without early stopping.

    Returns:
        A learning rate for an optimizer of Keras: a number, or a function of the batch number.
    """
    if isinstance(schedule, CosineParams):
        return _make_cosine(schedule, learning_rate, batches, epochs)
    if isinstance(schedule, OneCycleParams):
        return OneCycle(
            learning_rate,
            batches * epochs,
            schedule.warmup_share,
            schedule.start_divisor,
            schedule.final_divisor,
        )
    if isinstance(schedule, TriangularParams | Triangular2Params | ExpRangeParams):
        factor = {"triangular": 1.0, "triangular2": 0.5, "exp_range": 1.0}[schedule.kind]
        decay = schedule.decay if isinstance(schedule, ExpRangeParams) else 1.0
        return Cyclical(
            learning_rate,
            learning_rate / schedule.divisor,
            schedule.cycle_epochs * batches,
            factor,
            decay ** (1 / batches),
        )
    return learning_rate


def _make_cosine(
    schedule: CosineParams, learning_rate: float, batches: int, epochs: int
) -> CosineDecay:
    """Makes the cosine schedule of Keras; its warm-up starts at 0."""
    warmup = min(round(schedule.warmup_epochs * batches), batches * epochs - 1)
    decay = batches * epochs - warmup
    if not warmup:
        return CosineDecay(learning_rate, decay, alpha=schedule.final_share)
    return CosineDecay(
        0.0,
        decay,
        alpha=schedule.final_share,
        warmup_target=learning_rate,
        warmup_steps=warmup,
    )


def make_plateau(schedule: ScheduleParams) -> list[keras.callbacks.Callback]:
    """Returns the callback that lowers the rate on a plateau; empty for other schedules."""
    if not isinstance(schedule, PlateauParams):
        return []
    return [
        keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss",
            factor=schedule.factor,
            patience=schedule.patience,
            min_delta=schedule.min_delta,
            min_lr=schedule.min_learning_rate,
        )
    ]


@dataclass
class OneCycle(LearningRateSchedule):
    """One cycle (Smith and Topin 2018) with cosine annealing and constant momentum.

    Attributes:
        highest: The maximum rate.
        steps: Batches of the whole cycle.
        warmup_share: Position of the maximum, as a share of `steps`.
        start_divisor: The first rate is the maximum divided by it.
        final_divisor: The last rate is the first divided by it.
    """

    highest: float
    steps: int
    warmup_share: float
    start_divisor: float
    final_divisor: float

    def __call__(self, step: Any) -> Any:
        done = ops.cast(step, "float32") / max(self.steps - 1, 1)
        start = self.highest / self.start_divisor
        rise = _ease(start, self.highest, done / self.warmup_share)
        fall = _ease(
            self.highest,
            start / self.final_divisor,
            (done - self.warmup_share) / (1 - self.warmup_share),
        )
        return ops.where(done < self.warmup_share, rise, fall)


def _ease(begin: float, end: float, share: Any) -> Any:
    """Interpolates between two numbers along half a cosine."""
    share = ops.clip(share, 0.0, 1.0)
    return end + (begin - end) * (1 + ops.cos(math.pi * share)) / 2


@dataclass
class Cyclical(LearningRateSchedule):
    """A triangular cycle between two rates (Smith 2017).

    Attributes:
        highest: The first maximum.
        lowest: The minimum.
        cycle: Batches of one cycle.
        factor: Factor of the amplitude after each cycle.
        decay: Factor of the amplitude after each batch.
    """

    highest: float
    lowest: float
    cycle: float
    factor: float
    decay: float

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        cycles = ops.floor(step / self.cycle)
        height = 1 - ops.abs(2 * (step / self.cycle - cycles) - 1)
        shrunk = ops.power(self.factor, cycles) * ops.power(self.decay, step)
        return self.lowest + (self.highest - self.lowest) * height * shrunk
