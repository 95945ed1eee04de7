"""Sweeps of a real project: runs of trials, requeued trials, and concurrent processes."""

import contextlib
import os
import signal
import sqlite3
from pathlib import Path

import optuna
import pytest
from conftest import OURS, Project, change_params, kill, read_until
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from person_attributes.commands.sweep.study import open_study, translate_database_errors
from person_attributes.config import Params
from person_attributes.errors import TrackingError
from person_attributes.files import remove
from person_attributes.tracking.database import sqlite_address
from person_attributes.workspace import Workspace

SEARCH = {
    "phases.p2.learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2, "scale": "log"},
    "phases.p2.optimizer": {"kind": "choice", "choices": ["adam", "sgd"]},
}
RATE, OPTIMIZER = SEARCH
SWEEP = (*OURS, "sweep")


@pytest.fixture(scope="module")
def prepared(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose first phase is trained. The sweep searches the short second phase."""
    project = finished.copy(tmp_path_factory.mktemp("swept") / "project")
    changes = {
        "evaluation.phases": ["p2"],
        # Applies to all phases: if changed later, trials would train the first phase again.
        "training.early_stopping.patience": 60,
        "sweep.search": SEARCH,
        "sweep.sampler": "random",
        "sweep.pruner": "none",
        "sweep.trials": 3,
    }
    change_params(project.params_file, changes)
    project.cli("train", "p1")
    return project


@pytest.fixture
def project(prepared: Project, tmp_path: Path) -> Project:
    return prepared.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def whole(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a finished sweep; do not change it."""
    project = prepared.copy(tmp_path_factory.mktemp("whole") / "project")
    change_params(project.params_file, {"sweep.name": "whole"})
    done = project.cli("sweep")
    assert "sweep whole: 3 trials complete, 0 pruned" in done.stdout
    assert "p1 1/1" not in done.stdout, "the first phase is copied from the project"
    return project


def _runs(project: Project, sweep: str) -> tuple[Run, list[Run]]:
    client = MlflowClient(sqlite_address(project.root / "mlflow.db"))
    experiment = client.get_experiment_by_name("person-attributes")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.sweep = '{sweep}'")
    (parent,) = [run for run in found if run.info.run_name == f"sweep {sweep}"]
    trials = [run for run in found if run.info.run_id != parent.info.run_id]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    return parent, trials


def _study(project: Project, sweep: str) -> optuna.Study:
    return optuna.load_study(
        study_name=sweep, storage=sqlite_address(project.root / "sweeps" / "optuna.db")
    )


def test_every_trial_is_a_run_with_its_parameters_and_its_metric(whole: Project) -> None:
    parent, runs = _runs(whole, "whole")
    assert {run.info.status for run in [parent, *runs]} == {"FINISHED"}
    values = {trial.number: trial for trial in _study(whole, "whole").trials}
    assert len(runs) == 3
    for run in runs:
        trial = values[int(run.info.run_name.split()[1])]
        assert float(run.data.params[RATE]) == pytest.approx(trial.params[RATE])
        assert run.data.params[OPTIMIZER] == ["adam", "sgd"][trial.params[OPTIMIZER]]
        assert run.data.metrics["value"] == run.data.metrics["val_loss"] == trial.value
    client = MlflowClient(sqlite_address(whole.root / "mlflow.db"))
    stages = client.search_runs(
        [runs[0].info.experiment_id], f"tags.`mlflow.parentRunId` = '{runs[0].info.run_id}'"
    )
    assert {run.info.run_name for run in stages} == {"initialize", "train@p2"}
    left = [path.name for path in (whole.root / "sweeps" / "whole").iterdir()]
    assert left == [], "trials leave no files"


def test_the_pipeline_reproduces_a_trial(whole: Project, tmp_path: Path) -> None:
    """The parameters of the best trial give its metric."""
    project = whole.copy(tmp_path / "project")
    best = _study(project, "whole").best_trial
    optimizer = SEARCH[OPTIMIZER]["choices"][best.params[OPTIMIZER]]  # type: ignore[index]
    change_params(project.params_file, {RATE: best.params[RATE], OPTIMIZER: optimizer})
    project.cli("train", "p2")
    history = (project.root / "reports/phases/p2.csv").read_text().splitlines()
    column = history[0].split(",").index("val_loss")
    assert float(history[1].split(",")[column]) == best.value


def test_a_killed_trial_is_requeued_and_resumed(project: Project) -> None:
    changes = {"sweep.name": "killed", "sweep.trials": 2, "phases.p2.epochs": 60}
    changes |= {"runtime.checkpoint_minutes": 0.0}
    change_params(project.params_file, changes)
    first = project.start(*SWEEP)
    read_until("p2 3/60", first)
    kill(first)
    (trial,) = _study(project, "killed").trials
    assert trial.state == optuna.trial.TrialState.RUNNING
    _let_two_minutes_pass(project)
    change_params(project.params_file, {"runtime.checkpoint_minutes": 5.0})
    second = project.start(*SWEEP)
    outputs = [project.cli("sweep").stdout, second.communicate()[0]]
    assert second.returncode == 0, outputs
    assert sum("resuming from checkpoint, after epoch" in text for text in outputs) == 1
    trials = _study(project, "killed").trials
    states = [trial.state.name for trial in trials]
    assert states[0] == "FAIL"
    assert states.count("COMPLETE") in {2, 3}, "the second process may run one more trial"
    assert trials[0].params in [trial.params for trial in trials[1:]]
    parent, runs = _runs(project, "killed")
    assert {run.info.status for run in [parent, *runs]} == {"FINISHED"}
    assert len(runs) == states.count("COMPLETE"), "the killed trial resumed its run"
    drawn = {trial.params[RATE] for trial in trials}
    assert len(drawn) == len(trials) - 1, "only the requeued trial occurs twice"


def _let_two_minutes_pass(project: Project) -> None:
    """Sets the heartbeats back by two minutes: trials are dead after one minute without any."""
    with (
        contextlib.closing(sqlite3.connect(project.root / "sweeps" / "optuna.db")) as database,
        database,
    ):
        database.execute(
            "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-2 minutes')"
        )


def test_ctrl_c_stops_a_sweep_and_the_next_start_resumes_it(project: Project) -> None:
    changes = {"sweep.name": "stopped", "sweep.trials": 1, "phases.p2.epochs": 60}
    change_params(project.params_file, changes)
    first = project.start(*SWEEP)
    assert first.stdout is not None
    for line in first.stdout:
        if line.startswith("p2 3/60"):
            os.kill(first.pid, signal.SIGINT)
            break
    rest = first.stdout.read()
    first.stdout.close()
    assert first.wait() == 130, rest
    assert "p2: stopped by SIGINT after epoch" in rest
    _, runs = _runs(project, "stopped")
    assert [run.info.status for run in runs] == ["KILLED"]
    done = project.cli("sweep").stdout
    assert "resuming from checkpoint, after epoch" in done
    assert "sweep stopped: 1 trials complete, 0 pruned" in done
    _, runs = _runs(project, "stopped")
    assert [run.info.status for run in runs] == ["FINISHED"]


def test_a_trial_that_failed_for_another_reason_is_requeued(project: Project) -> None:
    changes = {"sweep.name": "misplaced", "sweep.trials": 1, "runtime.devices": "hosts"}
    change_params(project.params_file, changes)
    failed = project.cli("sweep", code=2)
    assert "TF_CONFIG: expected" in failed.stderr
    assert "trial 0: requeued; run the sweep again to resume it" in failed.stdout
    change_params(project.params_file, {"runtime.devices": "one"})
    assert "sweep misplaced: 1 trials complete, 0 pruned" in project.cli("sweep").stdout
    requeued, done = _study(project, "misplaced").trials
    assert (requeued.state.name, done.state.name) == ("FAIL", "COMPLETE")
    assert requeued.params == done.params
    _, runs = _runs(project, "misplaced")
    assert [run.info.status for run in runs] == ["FINISHED"]


def test_untrainable_values_end_only_their_trial(project: Project) -> None:
    rates = {"kind": "choice", "choices": [1e30, 1e-3]}
    changes = {"sweep.name": "wild", "sweep.sampler": "grid", "sweep.search": {RATE: rates}}
    change_params(project.params_file, changes | {"sweep.trials": 2, OPTIMIZER: "sgd"})
    done = project.cli("sweep").stdout
    assert "Expected a finite number. Lower the phase's learning_rate" in done
    assert "sweep wild: 1 trials complete, 1 pruned" in done


def test_values_that_are_invalid_together_end_only_their_trial(project: Project) -> None:
    search = {
        f"lr_finder.{key}": {"kind": "choice", "choices": [value]}
        for key, value in (("lowest", 0.5), ("highest", 0.1))
    }
    changes = {"sweep.name": "together", "sweep.search": search, "sweep.trials": 1}
    change_params(project.params_file, changes)
    done = project.cli("sweep").stdout
    assert "lowest must be below highest" in done
    assert done.splitlines()[-2:] == ["trial 0: pruned", "sweep together: no trial is complete yet"]


def test_a_sweep_without_data_creates_no_study(project: Project) -> None:
    change_params(project.params_file, {"sweep.name": "early"})
    remove(project.root / "data" / "encoded")
    failed = project.cli("sweep", code=2)
    assert "data/encoded: missing" in failed.stderr
    assert "Run dvc repro encode split pack" in failed.stderr
    assert not (project.root / "sweeps" / "optuna.db").exists()


def test_poor_trials_are_pruned(project: Project) -> None:
    rates = {"kind": "choice", "choices": [1e-3, 1e-8, 2e-8]}  # in the order of the grid
    changes = {
        "sweep.name": "pruned",
        "sweep.trials": 3,
        "sweep.sampler": "grid",
        "sweep.pruner": "median",
        "sweep.startup_trials": 1,
        "sweep.search": {RATE: rates},
        "phases.p2.epochs": 12,
    }
    change_params(project.params_file, changes)
    done = project.cli("sweep")
    states = [trial.state.name for trial in _study(project, "pruned").trials]
    assert states == ["COMPLETE", "PRUNED", "PRUNED"]
    assert "p1 1/1" not in done.stdout, "trials after a pruned one copy phases, too"
    _, runs = _runs(project, "pruned")
    assert all(run.data.metrics["value"] > 0 for run in runs)


def test_a_sweep_of_other_parameters_needs_another_name(whole: Project, tmp_path: Path) -> None:
    project = whole.copy(tmp_path / "project")
    change_params(project.params_file, {"sweep.name": "whole", "model.dropout": 0.3})
    failed = project.cli("sweep", code=2)
    assert "'whole' was started with other parameters or other data" in failed.stderr


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+nothing"])
def test_an_unreachable_database_is_one_line(project: Project, driver: str) -> None:
    """Nothing listens on that port. The driver may not be installed either."""
    change_params(project.params_file, {"sweep.name": "nowhere"})
    address = f"{driver}://mlflow:secret@127.0.0.1:9/optuna"
    error = project.cli("sweep", code=2, SWEEP_STORAGE=address).stderr
    assert error.startswith("SWEEP_STORAGE: ")
    assert "secret" not in error
    assert len(error.splitlines()) == 1


def test_advice_on_the_own_database_does_not_name_a_variable(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SWEEP_STORAGE", raising=False)
    workspace = Workspace(tmp_path)
    workspace.sweeps.mkdir()
    (workspace.sweeps / "optuna.db").write_bytes(b"not a database" * 100)
    message = r"^.*/sweeps/optuna\.db: file is not a database\. Restore a backup, or move the file"
    with pytest.raises(TrackingError, match=message), translate_database_errors(workspace):
        open_study(workspace, params)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({}, "sweep.search: nothing to search"),
        (
            {"phases.p2.epochs": {"kind": "float", "low": 1.5, "high": 2.5, "scale": "linear"}},
            "phases.p2.epochs: expected an integer. Received: 1.5",
        ),
        (
            {"data.max_quarantined_share": {"kind": "choice", "choices": [0.0, 0.5]}},
            "data.max_quarantined_share changes the data, which all trials share. Try its values "
            "with dvc exp run --queue",
        ),
    ],
)
def test_an_invalid_search_is_one_line(
    project: Project, search: dict[str, object], message: str
) -> None:
    change_params(project.params_file, {"sweep.search": search, "sweep.sampler": "random"})
    failed = project.cli("sweep", code=2)
    assert message in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
