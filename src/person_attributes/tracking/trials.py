"""Runs of a sweep: one above its trials, one for each trial above its stages."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from person_attributes.tracking.connection import (
    choose_experiment,
    connect,
    translate_mlflow_errors,
)
from person_attributes.tracking.executions import (
    git_tags,
    hold_open,
    log_params,
)
from person_attributes.tracking.experiments import KIND, TRIAL
from person_attributes.tracking.filters import quote_value
from person_attributes.tracking.processes import PROCESS, identify
from person_attributes.tracking.projects import RUN_ID
from person_attributes.workspace import Workspace

_SWEEP, _VALUE = "sweep", "value"


@dataclass(frozen=True)
class TrialRun:
    """One trial's MLflow run; stages that run below it are its children."""

    client: MlflowClient
    run_id: str

    @contextlib.contextmanager
    def above_stages(self) -> Iterator[None]:
        """Makes the next stage of this process a child of the trial, as `mlflow run` would."""
        os.environ[RUN_ID] = self.run_id
        try:
            yield
        finally:
            os.environ.pop(RUN_ID, None)

    def log_value(self, figure: str, value: float) -> None:
        """Logs what the trial is judged by, under its own name and as `value`."""
        for name in (figure, _VALUE):
            self.client.log_metric(self.run_id, name, value)


@contextlib.contextmanager
def open_sweep_run(
    workspace: Workspace,
    name: str,
    params: Mapping[str, Any],
    alone: contextlib.AbstractContextManager[object],
) -> Iterator[str]:
    """Opens the run above all trials of one name, or goes on with it.

    Several processes may hold it open at once.

    Args:
        workspace: The project.
        name: Of the sweep.
        params: The section that says what is searched.
        alone: Holds off the other processes while the run is looked for and made.

    Yields:
        The id of the run.
    """
    with translate_mlflow_errors():
        client = connect(workspace)
        experiment = choose_experiment(client, workspace)
        with alone:
            found = client.search_runs(
                [experiment],
                f"tags.`{_SWEEP}` = {quote_value(name)} "
                f"and tags.`{MLFLOW_RUN_NAME}` = {quote_value(f'sweep {name}')}",
                max_results=1,
            )
            if found:
                run_id = str(found[0].info.run_id)
            else:
                tags = {_SWEEP: name, **git_tags(workspace)}
                created = client.create_run(experiment, tags=tags, run_name=f"sweep {name}")
                run_id = str(created.info.run_id)
                log_params(client, run_id, {_SWEEP: params})
        client.set_tag(run_id, PROCESS, identify(psutil.Process()))
        with hold_open(client, run_id, is_ours=True):
            yield run_id


@contextlib.contextmanager
def open_trial_run(
    workspace: Workspace, sweep: str, sweep_run_id: str, name: str, run_id: str | None
) -> Iterator[TrialRun]:
    """Opens the run of a trial, or goes on with the one of an id.

    Args:
        workspace: The project.
        sweep: The sweep's name.
        sweep_run_id: The run above.
        name: Of the trial.
        run_id: Of a trial that was stopped, or None.

    Yields:
        The run. It ends as FINISHED, as FAILED where the block raises, as KILLED where the trial
        was stopped or fell behind.
    """
    client = connect(workspace)
    experiment = choose_experiment(client, workspace)
    if run_id is None:
        tags = {
            _SWEEP: sweep,
            KIND: TRIAL,
            MLFLOW_PARENT_RUN_ID: sweep_run_id,
            **git_tags(workspace),
        }
        run_id = str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)
    client.set_tag(run_id, PROCESS, identify(psutil.Process()))
    with hold_open(client, run_id, is_ours=True):
        yield TrialRun(client, run_id)
