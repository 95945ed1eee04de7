"""Sections for the data: sample, source, heads, split and data page."""

import re
import unicodedata
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from person_attributes.config.fields import (
    FROM_LIST,
    UNIQUE,
    Between,
    Column,
    Count,
    Identifier,
    ImageSize,
    Megapixels,
    Positive,
    Section,
    Share,
    Side,
)
from person_attributes.errors import suggest
from person_attributes.framing import BlackBars
from person_attributes.image_path import ImagePath
from person_attributes.invisible import strip_invisible

_Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _check_label(label: str) -> str:
    if not label or label != strip_invisible(label):
        raise ValueError(f"{label!r} is empty or has blanks around it; rename it")
    return unicodedata.normalize("NFC", label)


_Label = Annotated[str, AfterValidator(_check_label)]
"""A class or another content of a label cell, in Unicode's composed form (NFC)."""


class SampleParams(Section):
    """The drawn sample: seed, number of images, and their height and width in pixels."""

    seed: _Seed
    images: Count
    image_size: Side


class LimitsParams(Section):
    """Upper limits for archives, annotation files and images; larger input is refused."""

    members: Count
    unpacked_gigabytes: Positive
    annotations_megabytes: Positive
    image_megabytes: Positive
    image_megapixels: Megapixels


class DataParams(Section):
    """The annotated images and the sizes in which they are packed.

    `image_column` contains the path of each image; the empty string is the column without a name.
    Alternatively, `image_path` composes the path of several columns, such as `{folder}/{id}.jpg`.
    `keep_columns` are extra columns that are copied into the records. The split can group by them.
    `black_bars` chooses whether black bars are kept or cut off before resizing.
    """

    source: str
    annotations: str
    image_column: str
    image_path: str
    keep_columns: Annotated[tuple[Column, ...], FROM_LIST]
    limits: LimitsParams
    black_bars: BlackBars
    image_sizes: Annotated[tuple[ImageSize, ...], FROM_LIST, Field(min_length=1), UNIQUE]
    max_quarantined_share: Share

    @field_validator("source")
    @classmethod
    def _is_path(cls, source: str) -> str:
        if re.match(r"~/|[a-zA-Z][\w+.-]+:/", source):
            raise ValueError(
                f"expected a path to a folder or a .zip. Received: {source!r}; write out ~, and "
                "download a URL first, for example with dvc import-url"
            )
        return source

    @field_validator("image_path")
    @classmethod
    def _names_columns(cls, image_path: str) -> str:
        if image_path:
            ImagePath.parse(image_path)
        return image_path


class HeadParams(Section):
    """One classification output: its column in the annotations and its classes, in output order.

    The other keys are optional. They describe how cells of the column become class names. A cell in
    `missing` is a missing label. `aliases` maps other spellings and codes to classes. `bins` are
    increasing edges, one more than classes: a number from the first edge to below the second one is
    of the first class, and so on; the last class includes the last edge, as in `numpy.histogram`.
    """

    column: Column
    classes: Annotated[tuple[_Label, ...], FROM_LIST, Field(min_length=2), UNIQUE]
    missing: Annotated[tuple[_Label, ...], FROM_LIST, UNIQUE] = ()
    aliases: dict[_Label, _Label] = Field(default_factory=dict)
    bins: Annotated[tuple[float, ...], FROM_LIST] = ()

    @field_validator("bins")
    @classmethod
    def _increase(cls, bins: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in pairwise(bins)):
            raise ValueError(f"expected increasing numbers. Received: {list(bins)}; sort them")
        return bins

    @model_validator(mode="after")
    def _name_each_label_once(self) -> Self:
        for label, name in self.aliases.items():
            if name not in self.classes:
                hint = suggest(name, self.classes)
                raise ValueError(
                    f"aliases: {label!r} stands for {name!r}, which is not a class.{hint} "
                    f"Expected one of {', '.join(self.classes)}"
                )
        for key, labels in {"missing": self.missing, "aliases": self.aliases}.items():
            for label in labels:
                if label in self.classes or (key == "missing" and label in self.aliases):
                    known = "a class" if label in self.classes else "an alias"
                    raise ValueError(f"{key}: {label!r} is also {known}; remove one of them")
        if self.bins and len(self.bins) != len(self.classes) + 1:
            raise ValueError(
                f"bins: expected {len(self.classes) + 1} edges for {len(self.classes)} classes. "
                f"Received: {len(self.bins)}; add or remove edges"
            )
        return self

    @model_serializer(mode="wrap")
    def _omit_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value}


class GroupParams(Section):
    """Which rows form a group: equal values of a column, or equal matches of a pattern in it."""

    column: str
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _is_regular_expression(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a regular expression: {error}; correct it") from None
        return pattern


class NearDuplicateParams(Section):
    """How near-duplicates are detected, and what happens to pairs in different parts.

    Two images are compared when at most `hash_distance` of the 64 bits of their perceptual hashes
    differ. They are near-duplicates when the correlation of their edges is at least `similarity`.
    For pairs in different parts of the split, `across_parts` chooses to report them, to move both
    images into training, or to fail.
    """

    hash_distance: Annotated[int, Field(ge=0, le=32)]
    similarity: Annotated[float, Field(gt=0, le=1)]
    across_parts: Literal["report", "move", "fail"]


class SplitParams(Section):
    """How rows are divided into training, validation and test.

    `random` draws rows. `stratified` balances the classes of the heads in `stratify_by`, or of all
    heads if it is empty. `grouped` keeps the groups of `group_by` together. `seed` is used for the
    split only.
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
            raise ValueError("validation_share plus test_share must be below 1; lower one")
        return self


class InspectionParams(Section):
    """How much the data page shows.

    `images` is the number of images per class, `unusual_pairs` the number of class pairs,
    `near_duplicates` the number of image pairs, and `faults` the number of rows per kind of fault.
    """

    images: Annotated[int, Field(ge=1, le=100)]
    unusual_pairs: Annotated[int, Field(ge=0)]
    near_duplicates: Annotated[int, Field(ge=0)]
    faults: Annotated[int, Field(ge=0)]
