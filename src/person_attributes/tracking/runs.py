"""One stage's MLflow run."""

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import psutil
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from person_attributes.digests import combine, digest_paths
from person_attributes.errors import TrackingError
from person_attributes.tracking.connection import (
    choose_experiment,
    connect,
    translate_mlflow_errors,
)
from person_attributes.tracking.executions import (
    LAST_STAGE,
    OUTPUTS,
    STAGE,
    complete_execution,
    end_status,
    find_execution,
    git_tags,
    hold_open,
    log_params,
    name_reused_runs,
    open_execution,
)
from person_attributes.tracking.experiments import arrange_experiment, name_metric
from person_attributes.tracking.filters import quote_value
from person_attributes.tracking.journal import Addressee, Journal, Outbox
from person_attributes.tracking.processes import PLACE, PROCESS, identify, name_place
from person_attributes.tracking.projects import RUN_ID
from person_attributes.workspace import Workspace

_FINGERPRINT = "pipeline.fingerprint"
_PARTING_MINUTES = 0.05


@dataclass(frozen=True)
class Continuation:
    """What lets a stage that was stopped go on in its run.

    Attributes:
        fingerprint: Names what the stage computes; the run that carries it goes on.
        journal: The points that were said.
        patience_minutes: How long the end of the stage waits for a server that does not answer.
    """

    fingerprint: str
    journal: Journal
    patience_minutes: float


class Run:
    """One stage's MLflow run, and the run of the execution that it belongs to."""

    def __init__(self, client: MlflowClient, run_id: str, parent_id: str) -> None:
        self._client = client
        self._run_ids: dict[Addressee, str] = {"stage": run_id, "execution": parent_id}
        self._log: Callable[[Addressee, Mapping[str, float], int], None] = self._log_now
        self._flush: Callable[[], None] = lambda: None
        self.run_id = run_id
        self.parent_id = parent_id

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs numbers to the stage's run."""
        self._log("stage", metrics, step)

    def log_results(self, metrics: Mapping[str, float]) -> None:
        """Logs numbers to the stage's run and to its execution, where executions are compared."""
        grouped = {name_metric(name): value for name, value in metrics.items()}
        self._log("stage", grouped, 0)
        self._log("execution", grouped, 0)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Logs a file or a folder as an artifact."""
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), folder)
        else:
            self._client.log_artifact(self.run_id, str(path), folder)

    def log_bytes(self, content: bytes, name: str) -> None:
        """Logs bytes, such as a picture, as an artifact of that name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._client.log_artifact(self.run_id, str(path))

    def log_dataset(self, table: pd.DataFrame, name: str, source: str, context: str) -> None:
        """Logs which data the stage used, with MLflow's digest of it."""
        with warnings.catch_warnings():
            # Guesses at the kind of source and hints on integers: neither concerns the user.
            warnings.simplefilter("ignore", UserWarning)
            dataset = Dataset(**from_pandas(table, source=source, name=name).to_dict())
        used = DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])
        self._client.log_inputs(self.run_id, [used])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags the stage's run and its execution."""
        for run_id in (self.run_id, self.parent_id):
            for key, value in tags.items():
                self._client.set_tag(run_id, key, value)

    @contextlib.contextmanager
    def journaling(self, continuation: Continuation) -> Iterator[None]:
        """Logs through a journal in the block; what it holds already is sent again first."""
        journal = continuation.journal
        outbox = Outbox(self._client, self._run_ids)
        for point in journal.points:
            outbox.send(point)

        def log(addressee: Addressee, metrics: Mapping[str, float], step: int) -> None:
            point = journal.add(addressee, step, metrics)
            if point:
                outbox.send(point)

        self._log = log
        self._flush = lambda: outbox.flush(continuation.patience_minutes)
        try:
            yield
        except BaseException:
            # No time to wait for a server that is away: the journal has it all.
            with contextlib.suppress(TrackingError):
                outbox.flush(_PARTING_MINUTES)
            raise
        self._flush()

    def flush(self) -> None:
        """Waits until the server has every number, before files are logged."""
        self._flush()

    def _log_now(self, addressee: Addressee, metrics: Mapping[str, float], step: int) -> None:
        now = int(datetime.now().timestamp() * 1000)
        points = [Metric(name, float(value), now, step) for name, value in metrics.items()]
        self._client.log_batch(self._run_ids[addressee], metrics=points)


@contextlib.contextmanager
def open_run(
    stage: str,
    workspace: Workspace,
    params: Mapping[str, Any],
    all_params: Mapping[str, Any],
    inputs: Mapping[str, str],
    writes: Sequence[Path],
    continuation: Continuation | None = None,
) -> Iterator[Run]:
    """Opens the run of a stage below the run of its execution.

    Args:
        stage: Name in `dvc.yaml`, such as `train@p1`.
        workspace: The project; holds the embedded store unless `MLFLOW_TRACKING_URI` names another.
        params: The sections that the stage computes with.
        all_params: All of `params.yaml`, for the execution.
        inputs: Digests of the files and folders that the stage reads, by name.
        writes: Files and folders that the stage writes; they exist when the block ends.
        continuation: Where given, a run that was stopped goes on, and numbers are journaled.

    Yields:
        The run. It ends as FINISHED, as FAILED where the block raises, as KILLED after a signal.

    Raises:
        TrackingError: If the tracking store does not answer; start it or name another.
    """
    with translate_mlflow_errors():
        client = connect(workspace)
        experiment = choose_experiment(client, workspace)
        arrange_experiment(client, experiment)
        parent_id, is_ours = open_execution(client, experiment, workspace, all_params)
        tags = {
            MLFLOW_PARENT_RUN_ID: parent_id,
            STAGE: stage,
            PROCESS: identify(psutil.Process()),
            PLACE: name_place(workspace.checkpoints),
            "dvc.inputs": json.dumps(inputs),
            **git_tags(workspace),
        }
        with hold_open(client, parent_id, is_ours), contextlib.ExitStack() as stack:
            run_id = None
            if continuation:
                tags[_FINGERPRINT] = continuation.fingerprint
                run_id = _find_stopped(client, experiment, tags[PLACE], continuation)
            run = Run(client, stack.enter_context(_start_run(run_id, stage, tags)), parent_id)
            log_params(client, run.run_id, params)
            if continuation:
                stack.enter_context(run.journaling(continuation))
            yield run
            written = digest_paths(workspace.root, writes)
            client.set_tag(run.run_id, "dvc.written", json.dumps(written))
            client.set_tag(run.run_id, OUTPUTS, combine(written))
            name_reused_runs(client, experiment, workspace, parent_id, list(inputs))
            if stage == LAST_STAGE:
                complete_execution(client, parent_id)


@contextlib.contextmanager
def open_single_run(name: str, workspace: Workspace, params: Mapping[str, Any]) -> Iterator[Run]:
    """Opens a run of no stage and no execution, such as a test that nothing depends on.

    Args:
        name: Of the run.
        workspace: The project.
        params: What it computes with.

    Yields:
        The run.

    Raises:
        TrackingError: If the tracking store does not answer; start it or name another.
    """
    with translate_mlflow_errors():
        client = connect(workspace)
        choose_experiment(client, workspace)
        tags = {PROCESS: identify(psutil.Process()), **git_tags(workspace)}
        with _start_run(None, name, tags) as run_id:
            log_params(client, run_id, params)
            yield Run(client, run_id, run_id)


def log_up_to_date(
    workspace: Workspace,
    all_params: Mapping[str, Any],
    reads: Sequence[Path],
    results: Mapping[str, float],
    tags: Mapping[str, str],
) -> None:
    """Completes the execution whose last stage has nothing to do; there may be none.

    Args:
        workspace: The project.
        all_params: All of `params.yaml`.
        reads: Files of the project that the stage would read.
        results: Numbers by which executions are compared.
        tags: What the stage would say of itself.
    """
    client = connect(workspace)
    experiment = choose_experiment(client, workspace)
    is_project = RUN_ID in os.environ
    if not is_project and not find_execution(client, experiment, workspace, all_params):
        return
    run_id, is_ours = open_execution(client, experiment, workspace, all_params)
    with hold_open(client, run_id, is_ours):
        execution = Run(client, run_id, run_id)
        execution.log_metrics({name_metric(name): value for name, value in results.items()})
        execution.set_tags(tags)
        names = [workspace.relative(path) for path in reads]
        name_reused_runs(client, experiment, workspace, run_id, names)
        complete_execution(client, run_id)


def _find_stopped(
    client: MlflowClient, experiment: str, place: str, continuation: Continuation
) -> str | None:
    """Finds the run that the journal belongs to, or one that was stopped before it said anything.

    A run with numbers and no journal is another matter, such as `dvc repro --force`.
    """
    found = client.search_runs(
        [experiment],
        f"tags.`{_FINGERPRINT}` = {quote_value(continuation.fingerprint)} "
        f"and tags.`{PLACE}` = {quote_value(place)}",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if found and (continuation.journal.points or not found[0].data.metrics):
        return str(found[0].info.run_id)
    return None


@contextlib.contextmanager
def _start_run(run_id: str | None, stage: str, tags: Mapping[str, str]) -> Iterator[str]:
    """Starts a run, or goes on with one; MLflow's own block would hide why it ended."""
    active = mlflow.start_run(run_id, run_name=stage, tags=dict(tags))
    try:
        yield active.info.run_id
    except BaseException as error:
        with contextlib.suppress(MlflowException):
            mlflow.end_run(end_status(error))
        raise
    mlflow.end_run()
