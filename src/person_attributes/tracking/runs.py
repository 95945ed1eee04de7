"""The MLflow run of a stage."""

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
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]
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
    keep_running,
    log_params,
    open_execution,
    tag_reused_runs,
)
from person_attributes.tracking.experiments import arrange_experiment, name_metric
from person_attributes.tracking.filters import quote_value
from person_attributes.tracking.journal import Addressee, Journal, Outbox
from person_attributes.tracking.processes import PLACE, PROCESS, identify, name_place
from person_attributes.tracking.projects import RUN_ID
from person_attributes.workspace import Workspace

_FINGERPRINT = "pipeline.fingerprint"


@dataclass(frozen=True)
class Continuation:
    """State for resuming the run of a stopped stage.

    Attributes:
        fingerprint: Digest of everything that the result depends on; it identifies the run.
        journal: The recorded points.
        patience_minutes: Maximum time that the end of the stage waits for an unresponsive server.
    """

    fingerprint: str
    journal: Journal
    patience_minutes: float


class Run:
    """The MLflow run of a stage, and the run of its execution."""

    def __init__(self, client: MlflowClient, run_id: str, parent_id: str) -> None:
        self._client = client
        self._run_ids: dict[Addressee, str] = {"stage": run_id, "execution": parent_id}
        self._log: Callable[[Addressee, Mapping[str, float], int], None] = self._log_now
        self._flush: Callable[[], None] = lambda: None
        self.run_id = run_id
        self.parent_id = parent_id

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs metrics to the stage's run."""
        self._log("stage", metrics, step)

    def log_results(self, metrics: Mapping[str, float]) -> None:
        """Logs metrics to the stage's run and to its execution, to compare executions."""
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
        """Logs bytes, such as an image, as an artifact with the given name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._client.log_artifact(self.run_id, str(path))

    def log_dataset(self, table: pd.DataFrame, name: str, source: str, context: str) -> None:
        """Logs a dataset of the stage, with MLflow's digest.

        Args:
            table: The rows.
            name: Name of the dataset.
            source: Path of the data.
            context: What the stage uses it for, such as `training`.
        """
        with warnings.catch_warnings():
            # The warning about integer columns is irrelevant.
            warnings.simplefilter("ignore", UserWarning)
            # MLflow would take a path such as C:x for a URL.
            place = LocalArtifactDatasetSource(source)
            dataset = Dataset(**from_pandas(table, source=place, name=name).to_dict())
        used = DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])
        self._client.log_inputs(self.run_id, [used])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags the stage's run and its execution."""
        for run_id in (self.run_id, self.parent_id):
            for key, value in tags.items():
                self._client.set_tag(run_id, key, value)

    @contextlib.contextmanager
    def journaling(self, continuation: Continuation) -> Iterator[None]:
        """Logs through a journal in the block, after sending its existing points again."""
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
            # Do not wait for an unresponsive server: the journal keeps all points.
            with contextlib.suppress(TrackingError):
                outbox.flush(patience_minutes=0)
            raise
        else:
            self._flush()
        finally:
            outbox.close()

    def flush(self) -> None:
        """Waits until the server has all points."""
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
        workspace: The project; it contains the store unless `MLFLOW_TRACKING_URI` names another.
        params: The parameters that the stage uses.
        all_params: All of `params.yaml`, for the execution.
        inputs: Digests of the files and folders that the stage reads, by name.
        writes: Files and folders that the stage writes; they exist when the block ends.
        continuation: If given, a stopped run is resumed, and metrics go through a journal.

    Yields:
        The run. Its final status is FINISHED, FAILED if the block raises, or KILLED after a signal.

    Raises:
        TrackingError: If the tracking store does not respond: start it or name another.
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
        with keep_running(client, parent_id, is_ours), contextlib.ExitStack() as stack:
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
            tag_reused_runs(client, experiment, workspace, parent_id, list(inputs))
            if stage == LAST_STAGE:
                complete_execution(client, parent_id)


@contextlib.contextmanager
def open_single_run(name: str, workspace: Workspace, params: Mapping[str, Any]) -> Iterator[Run]:
    """Opens a run without a stage or an execution, such as the one of a range test.

    Args:
        name: Name of the run.
        workspace: The project.
        params: The parameters to log.

    Yields:
        The run.

    Raises:
        TrackingError: If the tracking store does not respond: start it or name another.
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
    """Completes the current execution, if there is one, when its last stage is up to date.

    Args:
        workspace: The project.
        all_params: All of `params.yaml`.
        reads: Files of the project that the stage would read.
        results: Metrics by which executions are compared.
        tags: Tags that the stage would set.
    """
    client = connect(workspace)
    experiment = choose_experiment(client, workspace)
    is_project = RUN_ID in os.environ
    if not is_project and not find_execution(client, experiment, workspace, all_params):
        return
    run_id, is_ours = open_execution(client, experiment, workspace, all_params)
    with keep_running(client, run_id, is_ours):
        execution = Run(client, run_id, run_id)
        execution.log_metrics({name_metric(name): value for name, value in results.items()})
        execution.set_tags(tags)
        names = [workspace.relative(path) for path in reads]
        tag_reused_runs(client, experiment, workspace, run_id, names)
        complete_execution(client, run_id)


def _find_stopped(
    client: MlflowClient, experiment: str, place: str, continuation: Continuation
) -> str | None:
    """Finds the run of the journal, or a run that was stopped before it logged metrics.

    A run with metrics but without a journal is complete; `dvc repro --force` starts a new run.
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
    """Starts or resumes a run; MLflow's own context manager never sets the status KILLED."""
    active = mlflow.start_run(run_id, run_name=stage, tags=dict(tags))
    try:
        yield active.info.run_id
    except BaseException as error:
        with contextlib.suppress(MlflowException):
            mlflow.end_run(end_status(error))
        raise
    mlflow.end_run()
