"""What a team shares: a tracking server, its accounts, sweeps and data. `make postgres`."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import mlflow
import pytest
from conftest import Project, change_params
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
from mlflow.tracking import MlflowClient
from team_server import ADMIN, ObjectStore, Postgres, TeamServer

pytestmark = pytest.mark.postgres

EPOCHS = 30
ACCOUNT = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "the password of ada"}
STAGES = [
    "sample", "ingest", "encode", "split", "pack@32", "pack@40", "initialize", "train@p1",
    "evaluate", "register",
]  # fmt: skip


@dataclass(frozen=True)
class Member(Project):
    """A copy of the project in the shell of somebody who has an account."""

    variables: Mapping[str, str] = field(default_factory=dict)

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
    """A team's server with an account, which the admin has made."""
    server = TeamServer(tmp_path_factory.mktemp("server"), postgres, store)
    with pytest.MonkeyPatch.context() as shell:
        _enter(shell, ADMIN)
        get_app_client("basic-auth", server.address).create_user(
            ACCOUNT["MLFLOW_TRACKING_USERNAME"], ACCOUNT["MLFLOW_TRACKING_PASSWORD"]
        )
    yield server
    server.end()


@pytest.fixture
def client(server: TeamServer, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    _enter(monkeypatch, ACCOUNT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    return MlflowClient(server.address)


def _enter(shell: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        shell.setenv(name, value)


@pytest.fixture(scope="module")
def members(make_project: Callable[[str], Project], server: TeamServer) -> list[Member]:
    """Two whose pipelines ran at once, while the server was ended and started again."""
    project = make_project("first")
    changes = {
        "evaluation.phase": "p1",
        "phases.p1.epochs": EPOCHS,
        "runtime.tracking_minutes": 9.0,
    }
    change_params(project.params_file, changes)
    second = project.root.with_name("second")
    shutil.copytree(project.root, second)
    account = ACCOUNT | {"MLFLOW_TRACKING_URI": server.address}
    members = [Member(root, account) for root in (project.root, second)]
    both = [member.start("dvc", "repro", "register") for member in members]
    said = []
    for process in both:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith("p1 1/"):
                break
        assert process.poll() is None, said
    server.end()
    server.start()
    for process in both:
        rest, _ = process.communicate()
        assert process.returncode == 0, rest
    return members


def _runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("person-attributes")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def _children(runs: list[Run], parent: Run) -> dict[str, Run]:
    below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return {run.data.tags["dvc.stage"]: run for run in below}


def test_two_pipelines_share_one_server(members: list[Member], client: MlflowClient) -> None:
    """Each has its execution with every stage and every epoch once, though the server was away."""
    runs = _runs(client)
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


def test_clients_reach_artifacts_and_models_by_the_server_alone(
    members: list[Member], client: MlflowClient, store: ObjectStore, tmp_path: Path
) -> None:
    versions = client.search_model_versions("name = 'person-attributes'")
    assert sorted(int(version.version) for version in versions) == [1, 2]
    code = (
        "import mlflow, pandas; image = open('data/sample/resized/1.jpg', 'rb').read();"
        "model = mlflow.pyfunc.load_model('models:/person-attributes@champion');"
        "print(model.predict(pandas.DataFrame({'image': [image]})).columns.tolist())"
    )
    assert not {name for name in members[0].environment() if name.startswith("AWS_")}
    assert "gender" in members[0].run("python", "-c", code).stdout
    s3 = boto3.client("s3", **store.credentials)
    kept = [item["Key"] for item in s3.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(key.endswith("network.onnx") for key in kept)


def test_strangers_are_refused_in_one_line(members: list[Member], server: TeamServer) -> None:
    address = {"MLFLOW_TRACKING_URI": server.address}
    wrong = ACCOUNT | {"MLFLOW_TRACKING_PASSWORD": "no password of ada"}
    for variables in (address, address | wrong):
        refused = Member(members[0].root, variables).cli("sample", code=2)
        assert "not authenticated" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1


def test_a_pull_from_s3_leaves_nothing_to_run(
    members: list[Member], store: ObjectStore, tmp_path: Path
) -> None:
    boto3.client("s3", **store.credentials).create_bucket(Bucket="data")
    variables = dict(members[0].variables) | store.environment
    first = Member(members[0].root, variables)
    first.run("dvc", "remote", "add", "--default", "team", "s3://data")
    first.run("git", "add", "--all")
    first.run("git", "commit", "--quiet", "--message", "Run")
    first.run("dvc", "push")
    first.run("git", "clone", "--quiet", str(first.root), str(tmp_path / "clone"))
    clone = Member(tmp_path / "clone", variables)
    clone.run("dvc", "pull", "register")
    assert clone.repro("register") == []
    assert clone.run("git", "status", "--porcelain").stdout == ""
