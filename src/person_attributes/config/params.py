"""The whole content of `params.yaml` as one frozen, validated object."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from person_attributes.config.data import (
    DataParams,
    HeadParams,
    InspectionParams,
    SampleParams,
    SplitParams,
)
from person_attributes.config.evaluation import EvaluationParams, ReportParams
from person_attributes.config.fields import Identifier, Section, require_known
from person_attributes.config.model import SMALLEST_SIZES, ModelParams
from person_attributes.config.registry import CardParams, RegistryParams
from person_attributes.config.sweep import SweepParams
from person_attributes.config.training import (
    AugmentationParams,
    LearningRateFinderParams,
    LossParams,
    OptimizerParams,
    PhaseParams,
    Recipe,
    RuntimeParams,
    ScheduleParams,
    TrainingParams,
)
from person_attributes.config.wording import describe_fault, follows_from_rename
from person_attributes.errors import ParamsError, suggest
from person_attributes.framing import height_and_width

INITIAL = "initial"
"""Name of the weights that the stage `initialize` writes; the first phase starts from them."""

_RESERVED_HEADS = frozenset(
    {"backbone", "image", "line", "mean", "neck", "prior", "rescale", "row", "test", "val"}
    | {"calibrated", "ensemble", "flip", "flipped", "instance", "objective", "standardize", "train"}
    | {"error", "path", "reason"}
)
"""Names of layers, of columns of records and predictions, and of metrics over all heads."""

_RESERVED_PREFIXES = ("ensemble_", "neck_", "test_", "train_", "val_")
"""Prefixes of networks of an ensemble, layers of the neck, and metrics on parts of the split."""

_NAMES_OF_A_HEAD = re.compile(
    r"_(batch_norm|dropout|dense)(_\d+)?|_(balanced|calibrated)|(_top_\d+)?_probability|_top_\d+"
)
"""Suffixes of a head's layers, metrics and columns of predictions."""


def is_reserved_head(name: str, heads: Collection[str]) -> bool:
    """Returns whether layers, columns or metrics, also those of other heads, have a head's name."""
    belongs_to_another = any(
        name.startswith(head) and _NAMES_OF_A_HEAD.fullmatch(name, len(head)) for head in heads
    )
    return belongs_to_another or name in _RESERVED_HEADS or name.startswith(_RESERVED_PREFIXES)


class Params(Section):
    """All of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    sample: SampleParams
    data: DataParams
    heads: Annotated[dict[Identifier, HeadParams], Field(min_length=1)]
    split: SplitParams
    inspection: InspectionParams
    augmentation: Annotated[dict[Identifier, AugmentationParams], Field(min_length=1)]
    losses: Annotated[dict[Identifier, LossParams], Field(min_length=1)]
    optimizers: Annotated[dict[Identifier, OptimizerParams], Field(min_length=1)]
    schedules: Annotated[dict[Identifier, ScheduleParams], Field(min_length=1)]
    model: ModelParams
    training: TrainingParams
    runtime: RuntimeParams
    phases: Annotated[dict[Identifier, PhaseParams], Field(min_length=1)]
    lr_finder: LearningRateFinderParams
    evaluation: EvaluationParams
    report: ReportParams
    registry: RegistryParams
    card: CardParams
    sweep: SweepParams

    @model_validator(mode="after")
    def _heads_have_free_names(self) -> Self:
        for name in self.heads:
            if is_reserved_head(name, self.heads):
                raise ValueError(f"heads.{name}: the name is reserved. Rename the head.")
        return self

    @model_validator(mode="after")
    def _a_head_is_served(self) -> Self:
        excluded = self.registry.serving.excluded_heads
        for name in excluded:
            if name not in self.heads:
                hint = suggest(name, list(self.heads))
                raise ValueError(f"registry.serving.excluded_heads: no head {name!r}.{hint}")
        if set(self.heads) <= set(excluded):
            raise ValueError(
                "registry.serving.excluded_heads: all heads are excluded. Remove one from the list."
            )
        return self

    @model_validator(mode="after")
    def _columns_are_unique(self) -> Self:
        columns: dict[str, str] = {}
        if not self.data.image_path:
            columns[self.data.image_column] = "data.image_column"
        for column in self.data.keep_columns:
            if column in columns or column in {"row", "line", "image", *self.heads}:
                raise ValueError(
                    f"data.keep_columns: the name {column!r} is already used; rename the column or "
                    "the head"
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
    def _split_names_known_heads_and_columns(self) -> Self:
        for head in self.split.stratify_by:
            require_known("split.stratify_by", head, list(self.heads))
        column = self.split.group_by.column
        path = "image" if self.data.image_path else self.data.image_column
        if self.split.method == "grouped" and column not in (path, *self.data.keep_columns):
            raise ValueError(
                f"split.group_by.column: records have no column {column!r}; add it to "
                "data.keep_columns, or choose a column that is not a label"
            )
        return self

    @model_validator(mode="after")
    def _images_are_large_enough(self) -> Self:
        smallest = SMALLEST_SIZES[self.model.backbone]
        sizes = {"data.image_sizes": self.data.image_sizes[0]}  # `initialize` builds for this one
        sizes |= {
            f"phases.{name}.image_size": phase.image_size for name, phase in self.phases.items()
        }
        for where, size in sizes.items():
            if min(height_and_width(size)) < smallest:
                raise ValueError(
                    f"{where}: {self.model.backbone} needs images of at least {smallest} px. "
                    f"Received: {size}. Raise it, or choose another backbone."
                )
        return self

    @model_validator(mode="after")
    def _phases_name_known_sections(self) -> Self:
        earlier = [INITIAL]
        for name, phase in self.phases.items():
            where = f"phases.{name}"
            if name == INITIAL:
                raise ValueError(f"{where}: the name is reserved. Rename the phase.")
            require_known(f"{where}.starts_from", phase.starts_from, earlier)
            require_known(f"{where}.image_size", phase.image_size, self.data.image_sizes)
            require_known(f"{where}.augmentation", phase.augmentation, list(self.augmentation))
            require_known(f"{where}.loss", phase.loss, list(self.losses))
            require_known(f"{where}.optimizer", phase.optimizer, list(self.optimizers))
            require_known(f"{where}.schedule", phase.schedule, list(self.schedules))
            earlier.append(name)
        return self

    @model_validator(mode="after")
    def _evaluated_phases_fit_together(self) -> Self:
        sizes = {}
        for name in self.evaluation.phases:
            require_known("evaluation.phases", name, list(self.phases))
            sizes[name] = self.phases[name].image_size
        if len(set(sizes.values())) > 1:
            received = ", ".join(f"{name} ({size})" for name, size in sizes.items())
            raise ValueError(
                f"evaluation.phases: expected phases of one image_size. Received: {received}. "
                "Remove the phases of another size."
            )
        return self

    @model_validator(mode="after")
    def _losses_weight_known_heads(self) -> Self:
        for name, loss in self.losses.items():
            for head in loss.head_weights:
                require_known(f"losses.{name}.head_weights", head, list(self.heads))
        return self

    @model_validator(mode="after")
    def _sweep_searches_known_keys(self) -> Self:
        heads = [f"val_{head}_{name}" for head in self.heads for name in ("loss", "accuracy")]
        require_known("sweep.metric", self.sweep.metric, ["val_loss", "val_mean_accuracy", *heads])
        content = self.model_dump(mode="json", exclude={"sweep"})
        for key in self.sweep.search:
            section = content
            for part in key.split("."):
                known = list(section) if isinstance(section, dict) else []
                if part not in known:
                    raise ValueError(
                        f"sweep.search: no such parameter {key!r}.{suggest(part, known)} "
                        "Use a key of this file, with dots between sections."
                    )
                section = section[part]
        return self

    def recipe(self, phase: str) -> Recipe:
        """Returns a phase with its augmentation policy, loss, optimizer and schedule."""
        section = self.phases[phase]
        return Recipe(
            section,
            self.augmentation[section.augmentation],
            self.losses[section.loss],
            self.optimizers[section.optimizer],
            self.schedules[section.schedule],
            self.training,
        )

    def chain(self) -> list[str]:
        """Lists the evaluated phases and those that they start from, in order of training."""
        found: set[str] = set()
        for phase in self.evaluation.phases:
            while phase != INITIAL:
                found.add(phase)
                phase = self.phases[phase].starts_from
        return [phase for phase in self.phases if phase in found]

    @property
    def evaluated_image_size(self) -> int | str:
        """The image size of the evaluated phases."""
        return self.phases[self.evaluation.phases[0]].image_size

    def change(self, changes: Mapping[str, Any]) -> "Params":
        """Returns a copy with other values at dotted keys.

        Raises:
            ParamsError: If the changed parameters are invalid; one line for each fault.
        """
        content = self.model_dump(mode="json")
        for key, value in changes.items():
            *sections, name = key.split(".")
            section = content
            for part in sections:
                section = section[part]
            section[name] = value
        return check_params(content, "params.yaml")


def check_params(content: Any, name: str) -> Params:
    """Checks the content of a parameter file.

    Raises:
        ParamsError: If a key is unknown or missing, or a value is invalid; one line for each fault.
    """
    if not isinstance(content, dict):
        received = "an empty file" if content is None else type(content).__name__
        raise ParamsError(
            f"{name}: expected keys and values. Received: {received}. "
            "Copy a file from recipes/ there."
        )
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        faults = [fault for fault in error.errors() if not follows_from_rename(fault)]
        lines = [f"{name}: {describe_fault(fault, Params)}" for fault in faults]
        raise ParamsError("\n".join(lines)) from None
