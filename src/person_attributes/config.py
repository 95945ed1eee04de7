"""What to compute: `params.yaml`, read once into one frozen, strict object.

Every field is required and nothing here holds a default, so `params.yaml` is the only place for a
number that can change a result, and DVC sees each of them.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeGuard, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from person_attributes.errors import ParamsError, suggest

INITIAL = "initial"
"""What the first phase starts from: the weights that `initialize` writes."""


_RESERVED_HEADS = frozenset(
    {"backbone", "image", "line", "mean", "neck", "rescale", "row", "shares", "test", "val"}
)
"""Names of the network's own layers, of columns of records, and of figures over heads."""

_RESERVED_PREFIXES = ("test_", "val_")
"""What figures of other rows begin with."""


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_FROM_LIST = BeforeValidator(_to_tuple)
_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0)]
_ImageSize = Annotated[int, Field(ge=32, le=4096)]
_Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
_Column = Annotated[str, Field(min_length=1)]
_Range = Annotated[tuple[_Positive, _Positive], _FROM_LIST]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SampleParams(_Section):
    """The drawn sample: how many images, and their height and width in pixels."""

    images: _Count
    image_size: _ImageSize


class LimitsParams(_Section):
    """What the data may not exceed: how much an archive holds, how large an image is."""

    members: _Count
    unpacked_gigabytes: _Positive
    annotations_megabytes: _Positive
    image_megabytes: _Positive
    image_megapixels: Annotated[float, Field(gt=0, le=89)]  # beyond that, Pillow itself refuses


class DataParams(_Section):
    """Where the annotated images lie and which sizes they are packed in.

    `keep_columns` are columns that records carry along: for the split, and for people.
    """

    source: str
    annotations: str
    image_column: _Column
    keep_columns: Annotated[tuple[_Column, ...], _FROM_LIST]
    limits: LimitsParams
    image_sizes: Annotated[tuple[_ImageSize, ...], _FROM_LIST, Field(min_length=1)]
    max_quarantined_share: _Share


class HeadParams(_Section):
    """One classification output: its column in the annotations and its classes, in output order."""

    column: _Column
    classes: Annotated[tuple[str, ...], _FROM_LIST, Field(min_length=2)]

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


class GroupParams(_Section):
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


class NearDuplicateParams(_Section):
    """Which images are one picture, or one person a moment later, and what is done about it.

    `hash_distance` is how many of 64 bits of two perceptual hashes may differ for a second look,
    `similarity` the correlation of the edges of two images from which they count as one. Where
    such images lie in different parts, `across_parts` reports it, moves them all into training,
    or fails.
    """

    hash_distance: Annotated[int, Field(ge=0, le=32)]
    similarity: Annotated[float, Field(gt=0, le=1)]
    across_parts: Literal["report", "move", "fail"]


class SplitParams(_Section):
    """How rows are divided into training, validation and test.

    `random` draws rows, `stratified` balances the heads of `stratify_by` (all where it names none),
    `grouped` keeps rows together as `group_by` says.
    """

    method: Literal["random", "stratified", "grouped"]
    validation_share: Annotated[float, Field(gt=0, lt=1)]
    test_share: Annotated[float, Field(ge=0, lt=1)]
    stratify_by: Annotated[tuple[str, ...], _FROM_LIST]
    group_by: GroupParams
    near_duplicates: NearDuplicateParams

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave no training rows; lower one")
        return self


class InspectionParams(_Section):
    """How much the page about the data shows.

    `images` in each strip, `unusual_pairs` of classes, pairs of `near_duplicates`, and `faults` of
    each kind.
    """

    images: Annotated[int, Field(ge=1, le=100)]
    unusual_pairs: Annotated[int, Field(ge=0)]
    near_duplicates: Annotated[int, Field(ge=0)]
    faults: Annotated[int, Field(ge=0)]


class AugmentationParams(_Section):
    """One augmentation policy; zeros leave images as they are.

    Shifts are shares of the width or height, zoom a share of the scale, rotation and shear degrees,
    brightness a share of the pixel value; each is drawn evenly from minus to plus that much.
    Flip and erase are probabilities. Erasing fills a rectangle with noise (Zhong et al. 2017,
    https://arxiv.org/abs/1708.04896): `erase_area` is its share of the image, `erase_aspect` its
    height over its width.
    """

    @property
    def is_identity(self) -> bool:
        """Whether the policy leaves every image as it is."""
        warps = (self.width_shift, self.height_shift, self.zoom, self.rotation, self.shear)
        return not (any(warps) or self.brightness or self.horizontal_flip or self.erase)

    width_shift: _Share
    height_shift: _Share
    zoom: Annotated[float, Field(ge=0, lt=1)]
    rotation: Annotated[float, Field(ge=0, le=180)]
    shear: Annotated[float, Field(ge=0, le=60)]
    brightness: Annotated[float, Field(ge=0, lt=1)]
    horizontal_flip: _Share
    erase: _Share
    erase_area: _Range
    erase_aspect: _Range


class ModelParams(_Section):
    """The network: `rescale → backbone → neck → a tower and a softmax per head`."""

    backbone: Literal["densenet"]
    blocks: Annotated[tuple[_Count, ...], _FROM_LIST, Field(min_length=1)]
    batch_norm_momentum: Annotated[float, Field(gt=0, lt=1)]
    tower_units: _Count
    dropout: Annotated[float, Field(ge=0, lt=1)]


class PlateauParams(_Section):
    """Lowers the learning rate when the validation loss stands still."""

    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: _Count
    min_delta: Annotated[float, Field(ge=0)]
    min_learning_rate: Annotated[float, Field(ge=0)]


class EarlyStoppingParams(_Section):
    """Ends a phase when the validation loss stands still."""

    patience: _Count
    min_delta: Annotated[float, Field(ge=0)]


class TrainingParams(_Section):
    """What all phases share.

    `precision` is what layers compute in; weights stay float32. `jit_compile` and `deterministic`
    are for GPUs: XLA, and operations that repeat to the bit. A head whose validation loss ends less
    than `least_progress` of it below the loss of the class shares is said to have learned nothing.
    """

    batch_size: _Count
    precision: Literal["float32", "bfloat16", "float16"]
    jit_compile: bool
    deterministic: bool
    least_progress: _Share
    plateau: PlateauParams
    early_stopping: EarlyStoppingParams


class PhaseParams(_Section):
    """One link of the training chain."""

    starts_from: _Identifier
    image_size: _ImageSize
    trainable: Literal["all", "heads"]
    augmentation: str
    learning_rate: _Positive
    epochs: _Count


class RuntimeParams(_Section):
    """How training runs here; nothing in it can change a result, and no stage depends on it.

    `workers` are processes that make batches ahead, 0 is a thread. `tracking_minutes` is how long
    the end of a phase waits for a tracking server that does not answer.
    """

    workers: Annotated[int, Field(ge=0, le=1024)]
    backup_minutes: Annotated[float, Field(ge=0)]
    tracking_minutes: Annotated[float, Field(ge=0)]


class EvaluationParams(_Section):
    """How the final network is scored; intervals are bootstrapped over rows."""

    phase: _Identifier
    batch_size: _Count
    confidence: Annotated[float, Field(gt=0, lt=1)]
    bootstrap_samples: _Count
    mistakes_per_head: Annotated[int, Field(ge=0)]


class ReportParams(_Section):
    """How figures look."""

    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class RegistryParams(_Section):
    """Under which name the model is registered, and when it becomes the champion."""

    model_name: str
    alias: _Identifier
    minimum_gain: Annotated[float, Field(ge=-1, le=1)]
    when_rows_differ: Literal["promote", "keep"]
    max_export_difference: _Positive


class Params(_Section):
    """All of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    sample: SampleParams
    data: DataParams
    heads: Annotated[dict[_Identifier, HeadParams], Field(min_length=1)]
    split: SplitParams
    inspection: InspectionParams
    augmentation: Annotated[dict[str, AugmentationParams], Field(min_length=1)]
    model: ModelParams
    training: TrainingParams
    runtime: RuntimeParams
    phases: Annotated[dict[_Identifier, PhaseParams], Field(min_length=1)]
    evaluation: EvaluationParams
    report: ReportParams
    registry: RegistryParams

    @model_validator(mode="after")
    def _heads_have_free_names(self) -> Self:
        for name in self.heads:
            if name in _RESERVED_HEADS or name.startswith(_RESERVED_PREFIXES):
                raise ValueError(f"heads.{name}: the name is taken. Rename the head.")
        return self

    @model_validator(mode="after")
    def _columns_are_unique(self) -> Self:
        columns: dict[str, str] = {self.data.image_column: "data.image_column"}
        for column in self.data.keep_columns:
            if column in columns or column in {"row", "line", "image", *self.heads}:
                raise ValueError(
                    f"data.keep_columns: the name {column!r} is taken; rename the column or a head"
                )
            columns[column] = "data.keep_columns"
        for name, head in self.heads.items():
            if head.column in columns:
                raise ValueError(
                    f"heads.{name}.column: column {head.column!r} is already used by "
                    f"{columns[head.column]}; give each its own column"
                )
            columns[head.column] = f"heads.{name}"
        return self

    @model_validator(mode="after")
    def _split_names_what_is_there(self) -> Self:
        for head in self.split.stratify_by:
            _require_known("split.stratify_by", head, list(self.heads))
        column = self.split.group_by.column
        if self.split.method == "grouped" and column not in (
            self.data.image_column,
            *self.data.keep_columns,
        ):
            raise ValueError(
                f"split.group_by.column: records have no column {column!r}; add it to "
                "data.keep_columns, or name another than a label's"
            )
        return self

    @model_validator(mode="after")
    def _phases_hang_together(self) -> Self:
        earlier = [INITIAL]
        for name, phase in self.phases.items():
            _require_known(f"phases.{name}.starts_from", phase.starts_from, earlier)
            _require_known(f"phases.{name}.image_size", phase.image_size, self.data.image_sizes)
            _require_known(
                f"phases.{name}.augmentation", phase.augmentation, list(self.augmentation)
            )
            earlier.append(name)
        _require_known("evaluation.phase", self.evaluation.phase, list(self.phases))
        return self


def _require_known(where: str, received: Any, known: Any) -> None:
    if received not in known:
        expected = ", ".join(str(value) for value in known)
        raise ValueError(f"{where}: expected one of {expected}. Received: {received}")


def read_params(path: Path) -> Params:
    """Reads and checks a parameter file.

    Args:
        path: A YAML 1.2 file.

    Returns:
        The checked parameters.

    Raises:
        ParamsError: If the file is missing, is no YAML, or has an unknown, missing or wrong value;
            one line for each fault names the key, what was expected and what was received.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: no such file. Run in the project's folder, or copy a file of recipes/ there."
        ) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ParamsError(
            f"{path}:{line}: not valid YAML: {error.problem}. Mend the line."
        ) from None
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise ParamsError(f"{path}: cannot be read: {error}") from None
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        lines = [f"{path.name}: {_describe(fault)}" for fault in error.errors()]
        raise ParamsError("\n".join(lines)) from None


def _describe(fault: Any) -> str:
    """Says one of pydantic's faults in one line: where, what, expected, received, what to do."""
    where = ".".join(str(key) for key in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _known_keys(fault["loc"])
        hint = suggest(str(fault["loc"][-1]), known)
        return (
            f"{where}: unknown key.{hint} Expected one of {', '.join(known)}. Rename or remove it."
        )
    if fault["type"] == "missing":
        return f"{where}: missing. Add the key; recipes/ holds complete files."
    if fault["type"] == "value_error":
        return f"{where}: {fault['ctx']['error']}" if where else str(fault["ctx"]["error"])
    expected = fault["msg"].removeprefix("Input should be ")
    return f"{where}: expected {expected}. Received: {fault['input']!r}. Change the value."


def _is_section(value: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """Lists the keys of the section that holds `location`."""
    section: Any = Params
    for key in location[:-1]:
        if _is_section(section):
            field = section.model_fields.get(str(key))
            section = field.annotation if field else None
        else:  # dict[name, Section]: the key is the user's own name
            section = get_args(section)[1]
    return list(section.model_fields) if _is_section(section) else []
