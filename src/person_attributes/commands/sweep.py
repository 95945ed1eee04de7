"""Sweeps: a search over parameters by Optuna, each trial a chain of stages in its own folder."""

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import optuna
import pandas as pd
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from person_attributes import stages
from person_attributes.config import Params, SearchParams, SweepParams
from person_attributes.digests import combine, digest_paths
from person_attributes.errors import (
    ParamsError,
    SurpassedError,
    TrackingError,
    UntrainableError,
)
from person_attributes.tracking.database import sqlite_address
from person_attributes.tracking.trials import TrialRun, open_sweep_run, open_trial_run
from person_attributes.workspace import Workspace

_STORAGE = "SWEEP_STORAGE"
"""Environment variable that names another database than the project's own, for several machines."""

_HEARTBEAT_SECONDS, _GRACE_SECONDS, _MAX_RETRIES = 10, 60, 3
"""How often a trial shows that it lives, when it counts as dead, how often it is given back."""

_FOLDER, _RUN = "folder", "mlflow_run"
"""What a trial hands on to the one that takes its place after it was stopped."""

_DEFINITION, _STARTS = "definition", "starts"
"""What a study remembers: what its trials have in common, and how many processes began."""

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def sweep(workspace: Workspace, params: Params) -> None:
    """Runs trials until the budget of `params.sweep` is used up.

    What an earlier process was stopped in goes on; other processes may run the same sweep at once.

    Args:
        workspace: The project; the outputs of its data stages are shared by all trials.
        params: Everything that is not searched, and the sweep.

    Raises:
        ParamsError: If the search names what no trial can change, or values that do not fit, or if
            the sweep of this name was begun with other parameters: name it anew. Or if the data
            stages have not run: run them first.
        StoppedError: If Ctrl-C or SIGTERM came; run it again to go on.
        TrackingError: If the database that `SWEEP_STORAGE` names does not answer.
        PersonAttributesError: Whatever else ends a trial, a full disk say: mend it, and run it
            again to go on.
    """
    section = params.sweep
    _refuse_what_no_trial_can_change(params)
    _require_data(workspace)
    with (
        _telling_of_the_database(),
        open_sweep_run(
            workspace, section.name, section.model_dump(), _hold_alone(workspace)
        ) as run_id,
    ):
        study = _open_study(workspace, params)
        if _count_ended(study) < section.trials:
            study.optimize(
                lambda trial: _run_suggested(workspace, params, run_id, study, trial),
                timeout=60 * section.minutes or None,
                callbacks=[
                    optuna.study.MaxTrialsCallback(section.trials, states=_ENDED),
                    lambda _, trial: _tell(section, trial),
                ],
            )
        print(describe_sweep(study, section))


def _refuse_what_no_trial_can_change(params: Params) -> None:
    """Refuses keys of the data, and values that parameters do not take, before anything runs."""
    section = params.sweep
    if not section.search:
        raise ParamsError(
            "params.yaml: sweep.search: nothing to search. Add keys of this file, each with a kind "
            "and a range or choices."
        )
    for key, search in section.search.items():
        if key.split(".")[0] in {"sample", "data", "heads"}:
            raise ParamsError(
                f"params.yaml: sweep.search: {key} changes the data, which all trials share. "
                f"Try its values with dvc exp run --queue -S {key}=..., or search another."
            )
        for value in search.choices if search.kind == "choice" else (search.low, search.high):
            params.change({key: value})


@contextlib.contextmanager
def _telling_of_the_database() -> Iterator[None]:
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


@contextlib.contextmanager
def _hold_alone(workspace: Workspace) -> Iterator[None]:
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


def _open_study(workspace: Workspace, params: Params) -> optuna.Study:
    """Opens the study of this name, or makes it; what other processes died in is given back."""
    section = params.sweep
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        with _hold_alone(workspace):
            storage = RDBStorage(
                os.environ.get(_STORAGE, sqlite_address(workspace.sweeps / "optuna.db")),
                # A database that was started anew has closed the connections of before.
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=_HEARTBEAT_SECONDS,
                grace_period=_GRACE_SECONDS,
                # Only so often, since a trial may be what ends its process.
                heartbeat_stale_trial_callback=partial(_give_back, max_retry=_MAX_RETRIES),
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


def _give_back(study: optuna.Study, trial: FrozenTrial, max_retry: int | None = None) -> None:
    """Puts a trial that was stopped back into the queue, with what it had noted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        retry = RetryHeartbeatStaleTrialCallback(max_retry, inherit_intermediate_values=True)
    retry(study, trial)


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


def _run_suggested(
    workspace: Workspace, params: Params, sweep_run_id: str, study: optuna.Study, trial: Trial
) -> float:
    """Runs one trial of Optuna; gives its value."""
    section = params.sweep
    changes = {key: _suggest(trial, key, search) for key, search in section.search.items()}
    changed = params.change(changes)
    folder = trial.user_attrs.get(_FOLDER, f"{trial.number:04d}")
    trial.set_user_attr(_FOLDER, folder)
    print(f"trial {trial.number}: {_format(changes)}", flush=True)
    name = f"{section.name} {folder}"
    stopped_run = trial.user_attrs.get(_RUN)
    place = workspace.trial(section.name, folder)
    try:
        with open_trial_run(workspace, section.name, sweep_run_id, name, stopped_run) as run:
            trial.set_user_attr(_RUN, run.run_id)
            report = _Reporter(trial, section.figure, run)
            best = run_trial(workspace, place, params, changed, run, report)
            run.log_value(section.figure, best[section.figure])
    except (SurpassedError, UntrainableError) as error:
        # Behind the others, or of values that cannot be trained: either way it is not the best.
        print(f"trial {trial.number}: {error}", flush=True)
        shutil.rmtree(place.root)
        raise optuna.TrialPruned from None
    except BaseException:
        # Nothing that its values did: stopped, or a full disk, a server that is away.
        print(f"trial {trial.number}: given back; the same sweep goes on with it", flush=True)
        _give_back(study, study.trials[trial.number])
        raise
    shutil.rmtree(place.root)
    return best[section.figure]


def _suggest(trial: Trial, key: str, search: SearchParams) -> Any:
    """Asks Optuna for a value; of choices it knows the numbers alone, whatever they are."""
    if search.kind == "float":
        return trial.suggest_float(key, search.low, search.high, log=search.scale == "log")
    if search.kind == "int":
        return trial.suggest_int(key, search.low, search.high, log=search.scale == "log")
    return search.choices[trial.suggest_categorical(key, range(len(search.choices)))]


class _Reporter:
    """Tells Optuna the figure of each epoch, and ends a trial that falls behind."""

    def __init__(self, trial: Trial, figure: str, run: TrialRun) -> None:
        self._trial = trial
        self._figure = figure
        self._run = run

    def __call__(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Reports an epoch, counted from 0 over all phases as params.yaml declares them."""
        self._trial.report(figures[self._figure], epoch)
        if self._trial.should_prune():
            self._run.log_value(self._figure, figures[self._figure])
            raise SurpassedError(f"fell behind after {epoch + 1} epochs")


def run_trial(
    workspace: Workspace,
    place: Workspace,
    params: Params,
    changed: Params,
    run: TrialRun,
    report: Callable[[int, Mapping[str, float]], None],
) -> dict[str, float]:
    """Runs the stages that changed parameters ask for, in a folder of its own.

    Phases that the changes do not touch are taken from the project, where it has them.

    Args:
        workspace: The project.
        place: The trial's folder, kept where it was stopped.
        params: The project's parameters.
        changed: The trial's.
        run: The trial's MLflow run.
        report: Told the number of each epoch, over all phases, and its figures.

    Returns:
        The figures of the best epoch of `evaluation.phase`.
    """
    import keras

    _link_data(workspace, place, is_split_shared=changed.split == params.split)
    if changed.split != params.split:
        with run.above_stages():
            stages.split(place, changed)
    # Keras numbers layers on from network to network, and files of weights hold the numbers: to the
    # byte they are those of the pipeline, a process a stage, only where every stage starts anew.
    keras.backend.clear_session()
    with run.above_stages():
        stages.initialize(place, changed)
    epochs = 0
    for phase in changed.chain():
        if not stages.adopt_phase(place, workspace, changed, phase):
            keras.backend.clear_session()
            listener = partial(_report_from, epochs, report)
            with run.above_stages():
                stages.train(place, changed, phase, [listener])
        epochs += changed.phases[phase].epochs
    history = pd.read_csv(place.history(changed.evaluation.phase), float_precision="round_trip")
    best = history.iloc[int(history["val_loss"].argmin())]
    return {str(name): float(value) for name, value in best.items()}


def _report_from(
    earlier: int,
    report: Callable[[int, Mapping[str, float]], None],
    epoch: int,
    figures: Mapping[str, float],
) -> None:
    """Counts the epochs of earlier phases in, also of those that were taken over."""
    report(earlier + epoch, figures)


def _data(workspace: Workspace) -> list[Path]:
    return [workspace.records.parent, workspace.one_hot.parent, workspace.pack(0).parent]


def _split(workspace: Workspace) -> list[Path]:
    return [workspace.split, workspace.near_duplicates]


def _require_data(workspace: Workspace) -> None:
    """Refuses to begin a sweep, whose name would be taken, before the data is there."""
    for path in (*_data(workspace), *_split(workspace)):
        if not path.exists():
            raise ParamsError(
                f"{workspace.relative(path)}: missing; trials share it. "
                "Run dvc repro encode split pack."
            )


def _link_data(workspace: Workspace, place: Workspace, *, is_split_shared: bool) -> None:
    """Links what the data stages have written into the folder of a trial."""
    for path in [*_data(workspace), *(_split(workspace) if is_split_shared else [])]:
        link = place.root / path.relative_to(workspace.root)
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(path)


def _tell(section: SweepParams, trial: FrozenTrial) -> None:
    value = f"{section.figure} {trial.value:.4f}" if trial.state == TrialState.COMPLETE else ""
    print(f"trial {trial.number}: {trial.state.name.lower()} {value}".rstrip(), flush=True)


def _count_ended(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=_ENDED))


def describe_sweep(study: optuna.Study, section: SweepParams) -> str:
    """Words the best trials, and the command that takes the best one over."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not ended:
        return f"sweep {section.name}: no trial has come to its end yet"
    ended.sort(key=lambda trial: trial.value or 0.0, reverse=section.direction == "maximize")
    pruned = _count_ended(study) - len(ended)
    lines = [f"sweep {section.name}: {len(ended)} trials, and {pruned} that fell behind"]
    lines += [f"  {trial.value:.4f}  {_format(_values(trial, section))}" for trial in ended[:5]]
    settings = " ".join(
        f"-S '{key}={json.dumps(value)}'" for key, value in _values(ended[0], section).items()
    )
    return "\n".join([*lines, f"take the best over: dvc exp run {settings}"])


def _values(trial: FrozenTrial, section: SweepParams) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in trial.params.items():
        search = section.search.get(key)
        values[key] = search.choices[value] if search and search.kind == "choice" else value
    return values


def _format(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )
