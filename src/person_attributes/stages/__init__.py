"""One function per DVC stage: read, call, write, log.

Only this room sees all of `Params` and knows which files a stage reads and writes. Heavy libraries
are imported inside the stages that use them, so that cheap stages stay cheap.
"""

from person_attributes.stages.checking import check
from person_attributes.stages.data import encode, ingest, inspect, pack, sample, split
from person_attributes.stages.evaluation import evaluate
from person_attributes.stages.joining import join
from person_attributes.stages.registration import (
    models,
    promote,
    register,
    require_champion,
    rollback,
    summarize,
)
from person_attributes.stages.training import adopt_phase, initialize, lr_find, train

__all__ = [
    "adopt_phase",
    "check",
    "encode",
    "evaluate",
    "ingest",
    "initialize",
    "inspect",
    "join",
    "lr_find",
    "models",
    "pack",
    "promote",
    "register",
    "require_champion",
    "rollback",
    "sample",
    "split",
    "summarize",
    "train",
]
