"""Section on sweeps: which numbers are searched, how, and for how long."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from person_attributes.config.fields import FROM_LIST, Count, NotNegative, Section


class _RangeSearchParams(Section):
    """What ranges share: they are drawn from evenly, or on a logarithmic scale."""

    low: float
    high: float
    scale: Literal["linear", "log"]

    @model_validator(mode="after")
    def _is_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low is not below high; lower the one or raise the other")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("a logarithmic scale has no numbers below 0; raise low")
        return self


class FloatSearchParams(_RangeSearchParams):
    """A number between `low` and `high`."""

    kind: Literal["float"]


class IntSearchParams(_RangeSearchParams):
    """A whole number between `low` and `high`, both among them."""

    kind: Literal["int"]
    low: int
    high: int


class ChoiceSearchParams(Section):
    """One of `choices`, whatever stands at that place of `params.yaml`."""

    kind: Literal["choice"]
    choices: Annotated[tuple[Any, ...], FROM_LIST, Field(min_length=1)]


SearchParams = Annotated[
    FloatSearchParams | IntSearchParams | ChoiceSearchParams, Field(discriminator="kind")
]


class SweepParams(Section):
    """A search over parameters by Optuna.

    Trials of one `name` belong together, also those of several processes. `metric` is one of the
    last phase's, of its best epoch, such as `val_loss` or `val_pose_accuracy`. `pruner` ends trials
    that fall behind: `median` those below the median, `hyperband` by successive halving. The first
    `startup_trials` are drawn at random by `tpe`, and not ended by `median`. The sweep ends after
    `trials`, or once `minutes` are over, whatever comes first; 0 minutes are no limit. `search` has
    dotted keys of this file, or nothing where no sweep is meant.
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

    @model_validator(mode="after")
    def _grid_has_choices(self) -> Self:
        ranges = [key for key, search in self.search.items() if search.kind != "choice"]
        if self.sampler == "grid" and ranges:
            raise ValueError(f"a grid needs choices, and {ranges[0]} is a range; list its values")
        return self
