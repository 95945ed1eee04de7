"""The search: trial after trial, until the budget is used up."""

import json
import shutil
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from person_attributes.commands.sweep.study import (
    give_back,
    hold_alone,
    open_study,
    telling_of_the_database,
)
from person_attributes.commands.sweep.trial import require_data, run_trial
from person_attributes.config import Params, SearchParams, SweepParams
from person_attributes.errors import ParamsError, SurpassedError, UntrainableError
from person_attributes.tracking.trials import TrialRun, open_sweep_run, open_trial_run
from person_attributes.workspace import Workspace

_FOLDER, _RUN = "folder", "mlflow_run"
"""What a trial hands on to the one that takes its place after it was stopped."""

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
    require_data(workspace)
    with (
        telling_of_the_database(),
        open_sweep_run(
            workspace, section.name, section.model_dump(), hold_alone(workspace)
        ) as run_id,
    ):
        study = open_study(workspace, params)
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
            report = _Reporter(trial, section.metric, run)
            best = run_trial(workspace, place, params, changed, run, report)
            run.log_value(section.metric, best[section.metric])
    except (SurpassedError, UntrainableError) as error:
        # Behind the others, or of values that cannot be trained: either way it is not the best.
        print(f"trial {trial.number}: {error}", flush=True)
        shutil.rmtree(place.root)
        raise optuna.TrialPruned from None
    except BaseException:
        # Nothing that its values did: stopped, or a full disk, a server that is away.
        print(f"trial {trial.number}: given back; the same sweep goes on with it", flush=True)
        give_back(study, study.trials[trial.number])
        raise
    shutil.rmtree(place.root)
    return best[section.metric]


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


def _tell(section: SweepParams, trial: FrozenTrial) -> None:
    value = f"{section.metric} {trial.value:.4f}" if trial.state == TrialState.COMPLETE else ""
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
