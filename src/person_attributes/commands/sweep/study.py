"""The study of a sweep in Optuna's store, which several processes may share."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from functools import partial

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
from person_attributes.tracking.database import sqlite_address
from person_attributes.workspace import Workspace

_STORAGE = "SWEEP_STORAGE"
"""Environment variable that names another database than the project's own, for several machines."""

_HEARTBEAT_SECONDS, _GRACE_SECONDS, _MAX_RETRIES = 10, 60, 3
"""How often a trial shows that it lives, when it counts as dead, how often it is given back."""

_DEFINITION, _STARTS = "definition", "starts"
"""What a study remembers: what its trials have in common, and how many processes began."""


def open_study(workspace: Workspace, params: Params) -> optuna.Study:
    """Opens the study of this name, or makes it; what other processes died in is given back."""
    section = params.sweep
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        with hold_alone(workspace):
            storage = RDBStorage(
                os.environ.get(_STORAGE, sqlite_address(workspace.sweeps / "optuna.db")),
                # A database that was started anew has closed the connections of before.
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=_HEARTBEAT_SECONDS,
                grace_period=_GRACE_SECONDS,
                # Only so often, since a trial may be what ends its process.
                heartbeat_stale_trial_callback=partial(give_back, max_retry=_MAX_RETRIES),
            )
            study = optuna.create_study(
                study_name=section.name,
                storage=storage,
                load_if_exists=True,
                direction=section.direction,
                pruner=_make_pruner(section),
            )
            _refuse_another_definition(study, workspace, params)
            # Another seed for every start: with one, each process would draw the same numbers.
            starts = study.user_attrs.get(_STARTS, 0)
            study.set_user_attr(_STARTS, starts + 1)
    study.sampler = _make_sampler(section, params.seed, starts)
    return study


def _refuse_another_definition(study: optuna.Study, workspace: Workspace, params: Params) -> None:
    """Trials of one study have everything in common but what is searched."""
    budget = {"trials", "minutes", "pruner", "sampler", "startup_trials"}
    definition = combine(
        {
            "params": params.model_dump(mode="json", exclude={"runtime": True, "sweep": budget}),
            "data": digest_paths(workspace.root, [workspace.one_hot, workspace.split]),
        }
    )
    if study.user_attrs.get(_DEFINITION, definition) != definition:
        raise ParamsError(
            f"params.yaml: sweep.name: {params.sweep.name!r} was begun with other parameters or "
            "other data. Trials of one name must be comparable: give this sweep another name."
        )
    study.set_user_attr(_DEFINITION, definition)


def _make_sampler(section: SweepParams, seed: int, starts: int) -> optuna.samplers.BaseSampler:
    if section.sampler == "grid":
        grid = {
            key: list(range(len(search.choices)))
            for key, search in section.search.items()
            if search.kind == "choice"
        }
        # The seed orders the grid; trials hold their place in that order.
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


def give_back(study: optuna.Study, trial: FrozenTrial, max_retry: int | None = None) -> None:
    """Puts a trial that was stopped back into the queue, with what it had noted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        retry = RetryHeartbeatStaleTrialCallback(max_retry, inherit_intermediate_values=True)
    retry(study, trial)


@contextlib.contextmanager
def hold_alone(workspace: Workspace) -> Iterator[None]:
    """Holds off other processes: of this folder by a file, of other machines by the database."""
    workspace.sweeps.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(workspace.sweeps / ".lock"), contextlib.ExitStack() as stack:
        if address := os.environ.get(_STORAGE):
            try:
                engine = create_engine(address, poolclass=NullPool)
            except ImportError as error:
                raise _word(error) from None
            if engine.dialect.name == "postgresql":
                connection = stack.enter_context(engine.connect())
                connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(_STORAGE))))
        yield


@contextlib.contextmanager
def telling_of_the_database() -> Iterator[None]:
    """Says in one line what a database says in many."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise _word(error) from None


def _word(error: Exception) -> TrackingError:
    said = str(error.__cause__ or error).partition("\n")[0].rstrip(".")
    return TrackingError(
        f"{_STORAGE}: {said}. Start that database and install its driver (the extra `shared`), "
        "or unset the variable."
    )
