"""MLflow runs of a sweep: one run above its trials, and one per trial above its stages."""

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
    keep_running,
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
    """The MLflow run of a trial; its stages are child runs."""

    client: MlflowClient
    run_id: str

    @contextlib.contextmanager
    def above_stages(self) -> Iterator[None]:
        """Makes the next stage of this process a child of the trial, like `mlflow run`."""
        os.environ[RUN_ID] = self.run_id
        try:
            yield
        finally:
            os.environ.pop(RUN_ID, None)

    def log_value(self, metric: str, value: float) -> None:
        """Logs the value that the sweep optimizes, under the metric's name and as `value`."""
        for name in (metric, _VALUE):
            self.client.log_metric(self.run_id, name, value)


@contextlib.contextmanager
def open_sweep_run(
    workspace: Workspace,
    name: str,
    params: Mapping[str, Any],
    alone: contextlib.AbstractContextManager[object],
) -> Iterator[str]:
    """Creates or resumes the run of a sweep, above all its trials.

    Several processes may open it at the same time.

    Args:
        workspace: The project.
        name: Name of the sweep.
        params: The section `sweep` of the parameters.
        alone: A lock that is held while the run is looked up and created.

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
        with keep_running(client, run_id, is_ours=True):
            yield run_id


@contextlib.contextmanager
def open_trial_run(
    workspace: Workspace, sweep: str, sweep_run_id: str, name: str, run_id: str | None
) -> Iterator[TrialRun]:
    """Creates or resumes the run of a trial.

    Args:
        workspace: The project.
        sweep: Name of the sweep.
        sweep_run_id: The run of the sweep.
        name: Name of the trial.
        run_id: The run of a stopped trial, or None.

    Yields:
        The run. Its final status is FINISHED, FAILED if the block raises, or KILLED if the trial
        was stopped or pruned.
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
    with keep_running(client, run_id, is_ours=True):
        yield TrialRun(client, run_id)
