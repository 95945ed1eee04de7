"""Sharing in a team: a tracking server, its accounts, sweeps and data. `make postgres`."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import pytest
from conftest import OURS, ROOT, Project, change_params, read_until, read_yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from sqlalchemy.pool import NullPool
from team_server import ADMIN, PASSWORD, ObjectStore, Postgres, TeamServer

from person_attributes.digests import digest_path
from person_attributes.tracking.database import sqlite_address

pytestmark = pytest.mark.postgres

EPOCHS = 20
ACCOUNT = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "the password of ada"}
REUSED = ["sample", "ingest", "encode", "pack@32"]
STAGES = ["split", "initialize", "train@p1", "select", "evaluate", "register"]
SWEEP = ("python", "-u", "-m", "person_attributes", "sweep")
RATE = "phases.p1.learning_rate"
MOVE = ROOT / "deploy" / "move_tracking.py"


@dataclass(frozen=True)
class Member(Project):
    """A copy of the project in the shell of a user with an account."""

    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return super().environment() | self.variables


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    postgres = Postgres(tmp_path_factory.mktemp("postgres"))
    yield postgres
    postgres.remove()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    store = ObjectStore(tmp_path_factory.mktemp("store"))
    yield store
    store.end()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, store: ObjectStore
) -> Iterator[TeamServer]:
    """A team's server with an account that the admin created."""
    server = TeamServer(tmp_path_factory.mktemp("server"), postgres, store)
    server.create_account(*ACCOUNT.values())
    yield server
    server.end()


@pytest.fixture
def client(server: TeamServer, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    return MlflowClient(server.address)


@pytest.fixture(scope="module")
def moved(
    make_project: Callable[[str], Project], postgres: Postgres, server: TeamServer
) -> tuple[Member, str]:
    """A project whose runs were moved to the server, and the output of that command."""
    project = make_project("moved")
    phase = read_yaml(project.params_file)["phases"]["p1"]
    changes = {
        "data.image_sizes": [32],
        "evaluation.phases": ["p1"],
        "phases": {"p1": phase | {"epochs": 1}},
        "sweep.search": {RATE: {"kind": "float", "low": 1e-4, "high": 1e-2, "scale": "log"}},
        "training.early_stopping.patience": 100,
        "runtime.tracking_minutes": 9.0,
    }
    change_params(project.params_file, changes)
    assert sorted(project.repro("register")) == sorted(REUSED + STAGES)
    member = Member(project.root, ACCOUNT | {"MLFLOW_TRACKING_URI": server.address})
    return member, _operate(member, postgres).run("python", str(MOVE)).stdout


def _operate(member: Member, postgres: Postgres) -> Member:
    """The same folder in the shell of the server's admin."""
    variables = member.variables | postgres.environment
    variables |= {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    variables["MLFLOW_BACKEND_STORE_URI"] = "postgresql+psycopg:///mlflow"
    return Member(member.root, variables)


@pytest.fixture(scope="module")
def members(moved: tuple[Member, str], server: TeamServer) -> list[Member]:
    """Two members whose pipelines ran concurrently while the server was restarted."""
    first, _ = moved
    change_params(first.params_file, {"split.seed": 43, "phases.p1.epochs": EPOCHS})
    second = Member(first.root.with_name("second"), first.variables)
    shutil.copytree(first.root, second.root)
    members = [first, second]
    both = [member.start("dvc", "repro", "register") for member in members]
    for process in both:
        read_until("p1 1/", process)
    server.end()
    server.start()
    for member, process in zip(members, both, strict=True):
        rest, _ = process.communicate()
        # Training waits for a server. A stage that starts meanwhile fails with one line.
        assert "Traceback" not in rest
        if process.returncode != 0:
            assert "MLflow at http" in rest
            member.repro("register")
    return members


def test_the_whole_store_is_moved_to_the_server(
    moved: tuple[Member, str], client: MlflowClient, tmp_path: Path
) -> None:
    member, output = moved
    embedded = MlflowClient(sqlite_address(member.root / "mlflow.db"))
    assert f"has 2 experiments, {1 + len(REUSED + STAGES)} runs, 1 model versions" in output
    for run in _runs(embedded):
        there = client.get_run(run.info.run_id)
        assert there.data.to_dictionary() == run.data.to_dictionary()
        assert there.to_dictionary()["inputs"] == run.to_dictionary()["inputs"]
        assert (there.info.status, there.info.end_time) == (run.info.status, run.info.end_time)
        if run.info.run_name == "train@p1":
            for name in run.data.metrics:
                points = client.get_metric_history(run.info.run_id, name)
                assert points == embedded.get_metric_history(run.info.run_id, name)
        for artifact in embedded.list_artifacts(run.info.run_id):
            kept = embedded.download_artifacts(run.info.run_id, artifact.path)
            sent = client.download_artifacts(run.info.run_id, artifact.path, str(tmp_path))
            assert digest_path(Path(sent)) == digest_path(Path(kept))
    (before,) = embedded.search_model_versions("name = 'person-attributes'")
    after = client.get_model_version_by_alias("person-attributes", "champion")
    assert int(after.version) == int(before.version)
    assert after.description == before.description
    assert (after.tags, after.creation_timestamp) == (before.tags, before.creation_timestamp)
    experiment = client.get_experiment(client.create_experiment("after the move"))
    assert int(experiment.experiment_id) > 1


def test_a_store_is_moved_only_to_an_empty_server(
    moved: tuple[Member, str], postgres: Postgres
) -> None:
    refused = _operate(moved[0], postgres).run("python", str(MOVE), code=2)
    assert "expected an empty server. Received: one with" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def _runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("person-attributes")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def _children(runs: list[Run], parent: Run) -> dict[str, Run]:
    below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return {run.data.tags["dvc.stage"]: run for run in below}


def test_two_pipelines_share_one_server(
    members: list[Member], moved: tuple[Member, str], client: MlflowClient
) -> None:
    """Each has one execution with every stage and epoch once, although the server was restarted."""
    embedded = MlflowClient(sqlite_address(moved[0].root / "mlflow.db"))
    earlier = {run.info.run_id: run for run in _runs(embedded)}
    runs = [run for run in _runs(client) if run.info.run_id not in earlier]
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == len(members)
    assert len(runs) == len(members) * (1 + len(STAGES))
    for parent in parents:
        stages = _children(runs, parent)
        assert sorted(stages) == sorted(STAGES)
        assert {run.info.status for run in (parent, *stages.values())} == {"FINISHED"}
        for name in ("loss", "val_loss", "learning_rate"):
            points = client.get_metric_history(stages["train@p1"].info.run_id, name)
            assert sorted(point.step for point in points) == list(range(EPOCHS)), name
        reused = {key: run for key, run in parent.data.tags.items() if key.startswith("reused.")}
        assert {earlier[run].data.tags["dvc.stage"] for run in reused.values()} == set(REUSED)
    versions = client.search_model_versions("name = 'person-attributes'")
    assert sorted(int(version.version) for version in versions) == [1, 2, 3]


def test_clients_reach_artifacts_and_models_through_the_server(
    members: list[Member], store: ObjectStore, tmp_path: Path
) -> None:
    code = (
        "import mlflow, pandas; image = open('data/sample/resized/1.jpg', 'rb').read();"
        "model = mlflow.pyfunc.load_model('models:/person-attributes@champion');"
        "print(model.predict(pandas.DataFrame({'image': [image]})).columns.tolist())"
    )
    assert not store.environment.keys() & members[0].environment().keys()
    assert "gender" in members[0].run("python", "-c", code).stdout
    # The command downloads the model, and removes it.
    here = Member(members[0].root, members[0].variables | {"TMPDIR": str(tmp_path)})
    here.run(*OURS, "predict", "data/sample/resized", "labels.csv")
    assert not list(tmp_path.iterdir())
    kept = [item["Key"] for item in store.client.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(key.endswith("network.onnx") for key in kept)


def test_users_without_an_account_are_refused_in_one_line(
    members: list[Member], server: TeamServer
) -> None:
    address = {"MLFLOW_TRACKING_URI": server.address}
    wrong = ACCOUNT | {"MLFLOW_TRACKING_PASSWORD": "no password of ada"}
    for variables in (address, address | wrong):
        refused = Member(members[0].root, variables).cli("sample", code=2)
        assert "not authenticated" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1


def test_after_a_pull_from_s3_nothing_is_computed(
    members: list[Member], store: ObjectStore, tmp_path: Path
) -> None:
    store.client.create_bucket(Bucket="data")
    variables = members[0].variables | store.environment
    first = Member(members[0].root, variables)
    first.run("dvc", "remote", "add", "--default", "team", "s3://data")
    first.run("git", "add", "--all")
    first.run("git", "commit", "--quiet", "--message", "Run")
    first.run("dvc", "push")
    first.run("git", "clone", "--quiet", str(first.root), str(tmp_path / "clone"))
    clone = Member(tmp_path / "clone", variables)
    clone.run("dvc", "pull", "--with-deps", "register")
    assert clone.repro("register") == ["register"]
    assert clone.run("git", "status", "--porcelain").stdout == ""


def test_sweeps_of_two_machines_share_one_study(
    members: list[Member], postgres: Postgres, client: MlflowClient
) -> None:
    """The sweep starts in two folders, is killed in one, stopped in the other, and resumed in both.

    The lock file of one folder does not lock out processes of another folder.
    """
    address = f"postgresql+psycopg://127.0.0.1:{postgres.port}/optuna"
    changes = {
        "phases.p1.epochs": 60,
        "runtime.checkpoint_minutes": 0.0,
        "sweep.name": "shared",
        "sweep.sampler": "random",
        "sweep.pruner": "none",
        "sweep.trials": 3,
    }
    machines = []
    for member in members:
        change_params(member.params_file, changes)
        variables = member.variables | postgres.environment | {"SWEEP_STORAGE": address}
        machines.append(Member(member.root, variables))
    both = [machine.start(*SWEEP) for machine in machines]
    for process, number in zip(both, (signal.SIGKILL, signal.SIGINT), strict=True):
        read_until("p1 2/60", process)
        os.killpg(process.pid, number)
        process.communicate()
    # A trial is dead after a minute without a heartbeat.
    time.sleep(65)
    both = [machine.start(*SWEEP) for machine in machines]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    with pytest.MonkeyPatch.context() as shell:
        for name, value in postgres.environment.items():
            shell.setenv(name, value)
        # Nobody would close the connections in a pool.
        storage = optuna.storages.RDBStorage(address, engine_kwargs={"poolclass": NullPool})
        trials = optuna.load_study(study_name="shared", storage=storage).trials
    states = [trial.state.name for trial in trials]
    done = [trial.params[RATE] for trial in trials if trial.state.name == "COMPLETE"]
    assert states[:2] == ["FAIL", "FAIL"]
    assert states.count("COMPLETE") in {3, 4}, "the second process may run one more trial"
    assert len(set(done)) == len(done), "no trial twice"
    assert {trial.params[RATE] for trial in trials[:2]} < set(done), "both were requeued"
    runs = [run for run in _runs(client) if run.data.tags.get("sweep") == "shared"]
    (parent,) = [run for run in runs if run.info.run_name == "sweep shared"]
    assert len(runs) == 1 + len(done), "requeued trials resumed their runs"
    assert {run.info.status for run in runs} == {"FINISHED"}, parent
