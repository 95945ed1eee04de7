"""Sweeps: a search over parameters by Optuna, each trial a chain of stages in its own folder."""

import contextlib
import shutil
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pandas as pd
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from person_attributes import stages
from person_attributes.config import INITIAL, Params, SearchParams, SweepParams
from person_attributes.errors import (
    ParamsError,
    StoppedError,
    SurpassedError,
    TrackingError,
    TrainingError,
)
from person_attributes.tracking.trials import TrialRun, open_sweep_run, open_trial_run
from person_attributes.workspace import Workspace

_HEARTBEAT_SECONDS, _GRACE_SECONDS = 10, 30
"""How often a trial shows that it is alive, and from when it counts as dead."""

_FOLDER, _RUN = "folder", "mlflow_run"
"""What a trial hands on to the one that takes its place after it was stopped."""

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def sweep(workspace: Workspace, params: Params) -> None:
    """Runs trials until the budget of `params.sweep` is used up.

    What an earlier process was stopped in goes on; other processes may run the same sweep at once.

    Args:
        workspace: The project; the outputs of its data stages are shared by all trials.
        params: Everything that is not searched, and the sweep.
    """
    section = params.sweep
    _refuse_what_no_trial_can_change(section)
    with open_sweep_run(workspace, section.name, section.model_dump()) as run_id:
        study = _open_study(workspace, params)
        if _count_ended(study) < section.trials:
            study.optimize(
                lambda trial: _run_suggested(workspace, params, run_id, study, trial),
                timeout=60 * section.minutes or None,
                catch=(TrainingError,),
                callbacks=[
                    optuna.study.MaxTrialsCallback(section.trials, states=_ENDED),
                    lambda _, trial: _tell(section, trial),
                ],
            )
        print(describe_sweep(study, section))


def _refuse_what_no_trial_can_change(section: SweepParams) -> None:
    if not section.search:
        raise ParamsError(
            "params.yaml: sweep.search: nothing to search. Add keys of this file, each with a kind "
            "and a range or choices."
        )
    for key in section.search:
        if key.split(".")[0] in {"sample", "data", "heads"}:
            raise ParamsError(
                f"params.yaml: sweep.search: {key} changes the data, which all trials share. "
                f"Try its values with dvc exp run --queue -S {key}=..., or search another."
            )


def _open_study(workspace: Workspace, params: Params) -> optuna.Study:
    """Opens the study of this name, or makes it; what other processes died in is given back."""
    section = params.sweep
    workspace.sweeps.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            storage = RDBStorage(
                params.runtime.sweep_storage or f"sqlite:///{workspace.sweeps / 'optuna.db'}",
                heartbeat_interval=_HEARTBEAT_SECONDS,
                grace_period=_GRACE_SECONDS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
        except Exception as error:  # whatever the driver of a database raises
            raise TrackingError(
                f"params.yaml: runtime.sweep_storage: {str(error).partition(chr(10))[0]} Start "
                "that database, or leave the value empty."
            ) from None
        study = optuna.create_study(
            study_name=section.name,
            storage=storage,
            load_if_exists=True,
            direction=section.direction,
            pruner=_make_pruner(section),
        )
    # Another seed for every start: with one, each process would draw the same numbers.
    study.sampler = _make_sampler(section, params.seed + len(study.trials))
    return study


def _make_sampler(section: SweepParams, seed: int) -> optuna.samplers.BaseSampler:
    if section.sampler == "grid":
        grid = {
            key: list(range(len(search.choices)))
            for key, search in section.search.items()
            if search.kind == "choice"
        }
        return optuna.samplers.GridSampler(grid, seed)
    if section.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.TPESampler(n_startup_trials=section.startup_trials, seed=seed)


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
            best = run_trial(workspace, place, params, changed, run, _Reporter(trial, section))
            run.log_value(section.figure, best[section.figure])
    except SurpassedError:
        shutil.rmtree(place.root)
        raise optuna.TrialPruned from None
    except (StoppedError, KeyboardInterrupt):
        study.enqueue_trial(trial.params, user_attrs=dict(trial.user_attrs))
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
    """Tells Optuna the figure of each epoch, over all phases, and ends what falls behind."""

    def __init__(self, trial: Trial, section: SweepParams) -> None:
        self._trial = trial
        self._figure = section.figure
        self._epochs = 0

    def __call__(self, epoch: int, figures: Mapping[str, float]) -> None:
        self._trial.report(figures[self._figure], self._epochs)
        self._epochs += 1
        if self._trial.should_prune():
            raise SurpassedError(
                f"trial {self._trial.number}: fell behind after {epoch + 1} epochs"
            )


def run_trial(
    workspace: Workspace,
    place: Workspace,
    params: Params,
    changed: Params,
    run: TrialRun,
    listener: Any,
) -> dict[str, float]:
    """Runs the stages that changed parameters ask for, in a folder of its own.

    Phases that the changes do not touch are taken from the project, where it has them.

    Args:
        workspace: The project.
        place: The trial's folder, kept where it was stopped.
        params: The project's parameters.
        changed: The trial's.
        run: The trial's MLflow run.
        listener: Told after each epoch.

    Returns:
        The figures of the best epoch of `evaluation.phase`.
    """
    import keras

    _link_data(workspace, place, is_split_shared=changed.split == params.split)
    if changed.split != params.split:
        with run.above_stages():
            stages.split(place, changed)
    with run.above_stages():
        stages.initialize(place, changed)
    for phase in _chain(changed):
        if not stages.adopt_phase(place, workspace, changed, phase):
            with run.above_stages():
                stages.train(place, changed, phase, [listener])
        keras.backend.clear_session()
    history = pd.read_csv(place.history(changed.evaluation.phase))
    best = history.iloc[int(history["val_loss"].argmin())]
    return {str(name): float(value) for name, value in best.items()}


def _chain(params: Params) -> Sequence[str]:
    """Lists the phases that lead to the one that is evaluated, in order."""
    chain: list[str] = []
    phase = params.evaluation.phase
    while phase != INITIAL:
        chain.insert(0, phase)
        phase = params.phases[phase].starts_from
    return chain


def _link_data(workspace: Workspace, place: Workspace, *, is_split_shared: bool) -> None:
    """Links what the data stages have written into the folder of a trial."""
    shared = [workspace.records.parent, workspace.one_hot.parent, workspace.pack(0).parent]
    if is_split_shared:
        shared += [workspace.split, workspace.near_duplicates]
    for path in shared:
        if not path.exists():
            raise ParamsError(
                f"{workspace.relative(path)}: missing; trials share it. Run dvc repro split pack."
            )
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
    settings = " ".join(f"-S '{key}={value}'" for key, value in _values(ended[0], section).items())
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
