"""Sections on the data: the sample, the source, its heads, its split, its page."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from person_attributes.config.fields import (
    FROM_LIST,
    Between,
    Column,
    Count,
    Identifier,
    ImageSize,
    Positive,
    Section,
    Share,
    Side,
)
from person_attributes.framing import BlackBars

_Seed = Annotated[int, Field(ge=0, lt=2**32)]


class SampleParams(Section):
    """The drawn sample: its seed, how many images, and their height and width in pixels."""

    seed: _Seed
    images: Count
    image_size: Side


class LimitsParams(Section):
    """What the data may not exceed: how much an archive holds, how large an image is."""

    members: Count
    unpacked_gigabytes: Positive
    annotations_megabytes: Positive
    image_megabytes: Positive
    image_megapixels: Annotated[float, Field(gt=0, le=89)]  # beyond that, Pillow itself refuses


class DataParams(Section):
    """Where the annotated images lie and which sizes they are packed in.

    `keep_columns` are columns that records carry along: for the split, and for people. `black_bars`
    at the sides of images are kept, or cut off before an image is resized.
    """

    source: str
    annotations: str
    image_column: Column
    keep_columns: Annotated[tuple[Column, ...], FROM_LIST]
    limits: LimitsParams
    black_bars: BlackBars
    image_sizes: Annotated[tuple[ImageSize, ...], FROM_LIST, Field(min_length=1)]
    max_quarantined_share: Share


class HeadParams(Section):
    """One classification output: its column in the annotations and its classes, in output order."""

    column: Column
    classes: Annotated[tuple[str, ...], FROM_LIST, Field(min_length=2)]

    @field_validator("classes")
    @classmethod
    def _are_unique(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({name for name in classes if classes.count(name) > 1})
        if repeated:
            raise ValueError(f"class {repeated[0]!r} is listed twice; remove one")
        blank = [name for name in classes if not name or name != name.strip()]
        if blank:
            raise ValueError(f"class {blank[0]!r} is empty or has blanks around it; rename it")
        return classes


class GroupParams(Section):
    """What rows belong together: those that are equal in a column, or in a pattern's groups."""

    column: str
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _is_regular_expression(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a regular expression: {error}; mend it") from None
        return pattern


class NearDuplicateParams(Section):
    """Which images are one picture, or one person a moment later, and what is done about it.

    `hash_distance` is how many of 64 bits of two perceptual hashes may differ for a second look,
    `similarity` the correlation of the edges of two images from which they count as one. Where
    such images lie in different parts, `across_parts` reports it, moves them all into training,
    or fails.
    """

    hash_distance: Annotated[int, Field(ge=0, le=32)]
    similarity: Annotated[float, Field(gt=0, le=1)]
    across_parts: Literal["report", "move", "fail"]


class SplitParams(Section):
    """How rows are divided into training, validation and test.

    `random` draws rows, `stratified` balances the heads of `stratify_by` (all where it names none),
    `grouped` keeps rows together as `group_by` says. `seed` is of the drawing alone.
    """

    method: Literal["random", "stratified", "grouped"]
    seed: _Seed
    validation_share: Between
    test_share: Annotated[float, Field(ge=0, lt=1)]
    stratify_by: Annotated[tuple[Identifier, ...], FROM_LIST]
    group_by: GroupParams
    near_duplicates: NearDuplicateParams

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave no training rows; lower one")
        return self


class InspectionParams(Section):
    """How much the page about the data shows.

    `images` in each strip, `unusual_pairs` of classes, pairs of `near_duplicates`, and `faults` of
    each kind.
    """

    images: Annotated[int, Field(ge=1, le=100)]
    unusual_pairs: Annotated[int, Field(ge=0)]
    near_duplicates: Annotated[int, Field(ge=0)]
    faults: Annotated[int, Field(ge=0)]
