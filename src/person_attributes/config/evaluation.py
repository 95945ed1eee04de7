"""Sections for the evaluation and for the style of plots."""

import math
from typing import Annotated, Self

from pydantic import Field, model_validator

from person_attributes.config.fields import (
    FROM_LIST,
    UNIQUE,
    Between,
    Count,
    Identifier,
    Section,
)


class EvaluationParams(Section):
    """How the final model is evaluated.

    Predictions are averaged over the networks of `phases`, and with `flips` also over each image
    and its mirror image. The served model does the same. `confidence` is the level of all
    confidence intervals; `bootstrap_samples` is the number of samples of those that are
    bootstrapped over rows.
    """

    phases: Annotated[tuple[Identifier, ...], FROM_LIST, Field(min_length=1), UNIQUE]
    batch_size: Count
    flips: bool
    confidence: Between
    bootstrap_samples: Count
    calibration_bins: Count
    calibration_folds: Annotated[int, Field(ge=2)]
    training_rows: Count
    min_slice_rows: Count
    most_confident_errors_per_head: Annotated[int, Field(ge=0)]
    least_confident_correct_per_head: Annotated[int, Field(ge=0)]
    label_issues_per_head: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _samples_reach_both_ends(self) -> Self:
        fewest = math.ceil(round(2 / (1 - self.confidence), 6))
        if self.bootstrap_samples < fewest:
            raise ValueError(
                f"bootstrap_samples: an interval with confidence {self.confidence:g} needs "
                f"{fewest} samples or more. Received: {self.bootstrap_samples}; raise "
                "bootstrap_samples, or lower confidence"
            )
        return self


class ReportParams(Section):
    """The style of plots and pages."""

    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
