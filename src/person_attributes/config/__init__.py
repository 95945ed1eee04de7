"""Typed, validated objects for the content of `params.yaml`.

Every field is required and has no default in code. So `params.yaml` is the only place for a number
that can change a result, and DVC tracks all of them. Only what a head may lack (`missing`,
`aliases`, `bins`) is optional, and empty if absent.
"""

from person_attributes.config.data import (
    DataParams,
    GroupParams,
    HeadParams,
    InspectionParams,
    LimitsParams,
    NearDuplicateParams,
    SampleParams,
    SplitParams,
)
from person_attributes.config.evaluation import EvaluationParams, ReportParams
from person_attributes.config.flattening import flatten
from person_attributes.config.model import (
    SMALLEST_SIZES,
    ModelParams,
    NormalizationParams,
    ResidualParams,
    StartingWeightsParams,
)
from person_attributes.config.params import INITIAL, Params, check_params, is_reserved_head
from person_attributes.config.reading import read_params, read_yaml
from person_attributes.config.registry import (
    PRETRAINED,
    CardParams,
    GateParams,
    RegistryParams,
    ServingParams,
)
from person_attributes.config.sweep import SearchParams, SweepParams
from person_attributes.config.training import (
    AugmentationParams,
    AugmenterParams,
    LearningRateFinderParams,
    LossParams,
    OptimizerParams,
    PhaseParams,
    Recipe,
    RuntimeParams,
    ScheduleParams,
    TrainingParams,
)

__all__ = [
    "INITIAL",
    "PRETRAINED",
    "SMALLEST_SIZES",
    "AugmentationParams",
    "AugmenterParams",
    "CardParams",
    "DataParams",
    "EvaluationParams",
    "GateParams",
    "GroupParams",
    "HeadParams",
    "InspectionParams",
    "LearningRateFinderParams",
    "LimitsParams",
    "LossParams",
    "ModelParams",
    "NearDuplicateParams",
    "NormalizationParams",
    "OptimizerParams",
    "Params",
    "PhaseParams",
    "Recipe",
    "RegistryParams",
    "ReportParams",
    "ResidualParams",
    "RuntimeParams",
    "SampleParams",
    "ScheduleParams",
    "SearchParams",
    "ServingParams",
    "SplitParams",
    "StartingWeightsParams",
    "SweepParams",
    "TrainingParams",
    "check_params",
    "flatten",
    "is_reserved_head",
    "read_params",
    "read_yaml",
]
