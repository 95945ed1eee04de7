"""The study of a sweep in Optuna's storage, which several processes may share."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import filelock
import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial
from sqlalchemy import create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from person_attributes.config import Params, SweepParams
from person_attributes.digests import combine, digest_paths
from person_attributes.errors import ParamsError, TrackingError
from person_attributes.tracking.connection import advise
from person_attributes.tracking.database import sqlite_address
from person_attributes.workspace import Workspace

_STORAGE = "SWEEP_STORAGE"
"""Environment variable with the URL of a database to use instead of the project's own file."""

_HEARTBEAT_SECONDS, _GRACE_SECONDS, _MAX_RETRIES = 10, 60, 3
"""Interval of heartbeats, silence after which a trial is dead, number of times it is requeued."""

_DEFINITION, _STARTS = "definition", "starts"
"""Attributes of a study: the digest of what its trials share, and how many processes started."""


def open_study(workspace: Workspace, params: Params) -> optuna.Study:
    """Opens or creates the study of this name; requeues trials whose process died."""
    section = params.sweep
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        with lock_sweeps(workspace):
            storage = RDBStorage(
                os.environ.get(_STORAGE) or sqlite_address(_name_database(workspace)),
                # A restarted database has closed its earlier connections.
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=_HEARTBEAT_SECONDS,
                grace_period=_GRACE_SECONDS,
                # Limited, because a trial itself may crash its process.
                heartbeat_stale_trial_callback=partial(requeue, max_retry=_MAX_RETRIES),
            )
            study = optuna.create_study(
                study_name=section.name,
                storage=storage,
                load_if_exists=True,
                direction=section.direction,
                pruner=_make_pruner(section),
            )
            _check_definition(study, workspace, params)
            # Every process needs its own seed, or all would draw the same values.
            starts = study.user_attrs.get(_STARTS, 0)
            study.set_user_attr(_STARTS, starts + 1)
    study.sampler = _make_sampler(section, params.seed, starts)
    return study


def _check_definition(study: optuna.Study, workspace: Workspace, params: Params) -> None:
    """Refuses a study whose trials ran with other parameters or data: they are not comparable."""
    budget = {"trials", "minutes", "pruner", "sampler", "startup_trials"}
    definition = combine(
        {
            "params": params.model_dump(mode="json", exclude={"runtime": True, "sweep": budget}),
            "data": digest_paths(workspace.root, [workspace.one_hot, workspace.split]),
        }
    )
    if study.user_attrs.get(_DEFINITION, definition) != definition:
        raise ParamsError(
            f"params.yaml: sweep.name: {params.sweep.name!r} was started with other parameters or "
            "other data, so its trials are not comparable. Give this sweep another name."
        )
    study.set_user_attr(_DEFINITION, definition)


def _make_sampler(section: SweepParams, seed: int, starts: int) -> optuna.samplers.BaseSampler:
    if section.sampler == "grid":
        grid = {
            key: list(range(len(search.choices)))
            for key, search in section.search.items()
            if search.kind == "choice"
        }
        # The seed sets the order of the grid, which must be the same in every process.
        return optuna.samplers.GridSampler(grid, seed)
    if section.sampler == "random":
        return optuna.samplers.RandomSampler(seed + starts)
    return optuna.samplers.TPESampler(n_startup_trials=section.startup_trials, seed=seed + starts)


def _make_pruner(section: SweepParams) -> optuna.pruners.BasePruner:
    if section.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=section.startup_trials)
    if section.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()


def requeue(study: optuna.Study, trial: FrozenTrial, max_retry: int | None = None) -> None:
    """Adds a stopped trial to the queue again, with its attributes and intermediate values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        retry = RetryHeartbeatStaleTrialCallback(max_retry, inherit_intermediate_values=True)
    retry(study, trial)


@contextlib.contextmanager
def lock_sweeps(workspace: Workspace) -> Iterator[None]:
    """Locks out other processes: by a file in this folder, and by the database if it is shared."""
    workspace.sweeps.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(workspace.sweeps / ".lock"), contextlib.ExitStack() as stack:
        if address := os.environ.get(_STORAGE):
            try:
                engine = create_engine(address, poolclass=NullPool)
            except ImportError as error:
                raise _describe_error(error, workspace) from None
            if engine.dialect.name == "postgresql":
                connection = stack.enter_context(engine.connect())
                connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(_STORAGE))))
        yield


@contextlib.contextmanager
def translate_database_errors(workspace: Workspace) -> Iterator[None]:
    """Translates errors of the database in the block into one line."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise _describe_error(error, workspace) from None


def _describe_error(error: Exception, workspace: Workspace) -> TrackingError:
    cause = error if error.__cause__ is None else error.__cause__
    reason = str(cause).partition("\n")[0].rstrip(".")
    if os.environ.get(_STORAGE):
        return TrackingError(
            f"{_STORAGE}: {reason}. Start that database and install its driver (the extra "
            "`shared`), or unset the variable."
        )
    advice = advise(error) or advise(cause)
    then = f" {advice}, and run the command again." if advice else ""
    return TrackingError(f"{_name_database(workspace)}: {reason}.{then}")


def _name_database(workspace: Workspace) -> Path:
    return workspace.sweeps / "optuna.db"
