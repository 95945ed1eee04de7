"""Section for sweeps: search space, sampler, pruner and budget."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from person_attributes.config.fields import FROM_LIST, Count, NotNegative, Section


class _RangeSearchParams(Section):
    """Base of ranges, sampled uniformly on a linear or logarithmic scale."""

    low: float
    high: float
    scale: Literal["linear", "log"]

    @model_validator(mode="after")
    def _is_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high; lower low or raise high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("low must be above 0 on a logarithmic scale; raise low")
        return self


class FloatSearchParams(_RangeSearchParams):
    """A number between `low` and `high`."""

    kind: Literal["float"]


class IntSearchParams(_RangeSearchParams):
    """An integer from `low` to `high`, both included."""

    kind: Literal["int"]
    low: int
    high: int


class ChoiceSearchParams(Section):
    """One of `choices`, which may be values of any type."""

    kind: Literal["choice"]
    choices: Annotated[tuple[Any, ...], FROM_LIST, Field(min_length=1)]


SearchParams = Annotated[
    FloatSearchParams | IntSearchParams | ChoiceSearchParams, Field(discriminator="kind")
]


class SweepParams(Section):
    """A hyperparameter search with Optuna.

    Trials with the same `name` belong to one sweep, also across processes. `metric` is a metric of
    the best epoch of the evaluated phase, such as `val_loss` or `val_pose_accuracy`; the mean of
    several. `pruner` ends trials that are worse than others: `median` compares with the median,
    `hyperband` uses successive halving. `tpe` samples the first `startup_trials` at random, and
    `median` does not end them. The sweep ends after `trials` trials or `minutes` minutes, whichever
    comes first; 0 minutes means no time limit. The keys of `search` are dotted keys of
    `params.yaml`; it may be empty if no sweep is planned.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]{0,99}$")]
    metric: str
    direction: Literal["minimize", "maximize"]
    sampler: Literal["tpe", "random", "grid"]
    pruner: Literal["none", "median", "hyperband"]
    startup_trials: Annotated[int, Field(ge=0)]
    trials: Count
    minutes: NotNegative
    search: dict[str, SearchParams]

    @field_validator("name")
    @classmethod
    def _is_name_of_folder(cls, name: str) -> str:
        if name.startswith("optuna.db") or name.endswith((".", " ")):
            raise ValueError(
                f"the name is also that of a folder. Expected another name than that of the "
                f"database, without a dot or blank at the end. Received: {name!r}; rename the sweep"
            )
        return name

    @model_validator(mode="after")
    def _grid_has_choices(self) -> Self:
        ranges = [key for key, search in self.search.items() if search.kind != "choice"]
        if self.sampler == "grid" and ranges:
            raise ValueError(f"grid needs choices, but {ranges[0]} is a range; list its values")
        return self
