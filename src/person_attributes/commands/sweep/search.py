"""Runs the trials of a sweep until its budget is used up."""

import json
import shutil
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from person_attributes.commands.sweep.study import (
    lock_sweeps,
    open_study,
    requeue,
    translate_database_errors,
)
from person_attributes.commands.sweep.trial import require_data, run_trial
from person_attributes.config import Params, SearchParams, SweepParams
from person_attributes.errors import ParamsError, SurpassedError, UntrainableError
from person_attributes.tracking.trials import TrialRun, open_sweep_run, open_trial_run
from person_attributes.workspace import Workspace

_FOLDER, _RUN = "folder", "mlflow_run"
"""Attributes that a stopped trial passes to the trial that resumes it."""

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def sweep(workspace: Workspace, params: Params) -> None:
    """Runs trials until the budget of `params.sweep` is used up.

    Trials of an interrupted process are resumed. Several processes may run the same sweep at once.

    Args:
        workspace: The project; all trials share the outputs of its data stages.
        params: The sweep, and all parameters that are not searched.

    Raises:
        ParamsError: If the search has a key that trials cannot change or an invalid value: correct
            it. If a sweep of this name started with other parameters: rename it. If the data stages
            have not run: run them first.
        StoppedError: After Ctrl-C or SIGTERM. Run the sweep again to resume it.
        TrackingError: If the database of the sweep cannot be read or written.
        PersonAttributesError: If anything else ends a trial, such as a full disk. Fix it, then run
            the sweep again to resume it.
    """
    section = params.sweep
    _check_search(params)
    require_data(workspace)
    with (
        translate_database_errors(workspace),
        open_sweep_run(
            workspace, section.name, section.model_dump(), lock_sweeps(workspace)
        ) as run_id,
    ):
        study = open_study(workspace, params)
        if _count_ended(study) < section.trials:
            study.optimize(
                lambda trial: _run_suggested(workspace, params, run_id, study, trial),
                timeout=60 * section.minutes or None,
                callbacks=[
                    optuna.study.MaxTrialsCallback(section.trials, states=_ENDED),
                    lambda _, trial: _print_trial(section, trial),
                ],
            )
        print(describe_sweep(study, section))


def _check_search(params: Params) -> None:
    """Refuses an empty search, keys of the data and invalid values before anything runs."""
    section = params.sweep
    if not section.search:
        raise ParamsError(
            "params.yaml: sweep.search: nothing to search. Add keys of params.yaml, each with a "
            "kind and a range or choices."
        )
    for key, search in section.search.items():
        if key.split(".")[0] in {"sample", "data", "heads"}:
            raise ParamsError(
                f"params.yaml: sweep.search: {key} changes the data, which all trials share. "
                f"Try its values with dvc exp run --queue -S {key}=..., or search another key."
            )
        for value in search.choices if search.kind == "choice" else (search.low, search.high):
            params.change({key: value})


def _run_suggested(
    workspace: Workspace, params: Params, sweep_run_id: str, study: optuna.Study, trial: Trial
) -> float:
    """Runs one trial with values that Optuna suggests; returns its metric."""
    section = params.sweep
    changes = {key: _suggest(trial, key, search) for key, search in section.search.items()}
    folder = trial.user_attrs.get(_FOLDER, f"{trial.number:04d}")
    trial.set_user_attr(_FOLDER, folder)
    print(f"trial {trial.number}: {_format(changes)}", flush=True)
    try:
        changed = params.change(changes)
    except ParamsError as error:  # each value is valid, but not together with the others
        print(f"trial {trial.number}: {error}", flush=True)
        raise optuna.TrialPruned from None
    name = f"{section.name} {folder}"
    stopped_run = trial.user_attrs.get(_RUN)
    trial_workspace = workspace.trial(section.name, folder)
    try:
        with open_trial_run(workspace, section.name, sweep_run_id, name, stopped_run) as run:
            trial.set_user_attr(_RUN, run.run_id)
            report = _Reporter(trial, section.metric, run)
            best = run_trial(workspace, trial_workspace, params, changed, run, report)
            run.log_value(section.metric, best[section.metric])
    except (SurpassedError, UntrainableError) as error:
        # The suggested values are worse than others, or cannot be trained.
        print(f"trial {trial.number}: {error}", flush=True)
        shutil.rmtree(trial_workspace.root)
        raise optuna.TrialPruned from None
    except BaseException:
        # The suggested values are not the cause: a signal, a full disk, an unreachable server.
        print(f"trial {trial.number}: requeued; run the sweep again to resume it", flush=True)
        requeue(study, study.trials[trial.number])
        raise
    shutil.rmtree(trial_workspace.root)
    return best[section.metric]


def _suggest(trial: Trial, key: str, search: SearchParams) -> Any:
    """Asks Optuna for a value. Choices are passed by index, because they may have any type."""
    if search.kind == "float":
        return trial.suggest_float(key, search.low, search.high, log=search.scale == "log")
    if search.kind == "int":
        return trial.suggest_int(key, search.low, search.high, log=search.scale == "log")
    return search.choices[trial.suggest_categorical(key, range(len(search.choices)))]


class _Reporter:
    """Reports the metric of each epoch to Optuna, and ends a trial that the pruner stops."""

    def __init__(self, trial: Trial, metric: str, run: TrialRun) -> None:
        self._trial = trial
        self._metric = metric
        self._run = run

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Reports an epoch, counted from 0 over all phases of the chain."""
        self._trial.report(metrics[self._metric], epoch)
        if self._trial.should_prune():
            self._run.log_value(self._metric, metrics[self._metric])
            raise SurpassedError(f"pruned after {epoch + 1} epochs")


def _print_trial(section: SweepParams, trial: FrozenTrial) -> None:
    value = f"{section.metric} {trial.value:.4f}" if trial.state == TrialState.COMPLETE else ""
    print(f"trial {trial.number}: {trial.state.name.lower()} {value}".rstrip(), flush=True)


def _count_ended(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=_ENDED))


def describe_sweep(study: optuna.Study, section: SweepParams) -> str:
    """Describes the best trials, and the command that runs the pipeline with the best one."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return f"sweep {section.name}: no trial is complete yet"
    complete.sort(key=lambda trial: trial.value or 0.0, reverse=section.direction == "maximize")
    pruned = _count_ended(study) - len(complete)
    lines = [f"sweep {section.name}: {len(complete)} trials complete, {pruned} pruned"]
    lines += [
        f"  {trial.value:.4f}  {_format(_get_values(trial, section))}" for trial in complete[:5]
    ]
    settings = " ".join(
        f"-S '{key}={json.dumps(value)}'"
        for key, value in _get_values(complete[0], section).items()
    )
    return "\n".join([*lines, f"use the best values: dvc exp run {settings}"])


def _get_values(trial: FrozenTrial, section: SweepParams) -> dict[str, Any]:
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
