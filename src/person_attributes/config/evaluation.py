"""Sections for the evaluation and for the style of plots."""

from typing import Annotated

from pydantic import Field

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


class ReportParams(Section):
    """The style of plots and pages."""

    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
