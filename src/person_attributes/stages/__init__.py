"""One function per DVC stage: read, call, write, log.

Only this room sees all of `Params` and knows which files a stage reads and writes. Heavy libraries
are imported inside the stages that use them, so that cheap stages stay cheap.
"""

from person_attributes.commands.check import check
from person_attributes.pipeline.ingest import encode, ingest, inspect, pack, sample, split
from person_attributes.pipeline.evaluate import evaluate
from person_attributes.commands.join import join
from person_attributes.pipeline.register import (
    models,
    promote,
    register,
    require_champion,
    rollback,
    summarize,
)
from person_attributes.pipeline.train import adopt_phase, initialize, lr_find, train

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
