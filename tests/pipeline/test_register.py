"""`register` adds the version that a tracking store lacks, even if all other stages are skipped."""

import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest
from conftest import Project, change_params
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from person_attributes.digests import digest_path
from person_attributes.tracking.database import sqlite_address

NAME, ALIAS = "person-attributes", "champion"


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of a finished project that a test may change."""
    return finished.copy(tmp_path / "project")


def _client(project: Project) -> MlflowClient:
    return MlflowClient(sqlite_address(project.root / "mlflow.db"))


def _versions(client: MlflowClient) -> list[str]:
    return sorted(str(one.version) for one in client.search_model_versions(f"name = '{NAME}'"))


def _champion(client: MlflowClient) -> ModelVersion:
    return client.get_model_version_by_alias(NAME, ALIAS)


def _assert_serves_the_weights(project: Project, client: MlflowClient, version: str) -> None:
    """Checks that the weights of a version are those of the project."""
    found = client.get_model_version(NAME, version)
    assert found.tags["gate.settled"] == "true"
    location = client.get_logged_model(Path(str(found.source)).name).artifact_location
    (weights,) = Path(url2pathname(urlparse(location).path)).rglob("*.weights.h5")
    assert weights.is_relative_to(project.root)
    assert digest_path(weights) == digest_path(project.root / "models/phases/p5.weights.h5")


def _run_what_repro_runs(project: Project) -> None:
    """Runs `register` in this process, the only stage that `dvc repro` would run."""
    assert project.repro("--dry") == ["register"]
    project.execute("register")


def _clone(project: Project, *options: str) -> Project:
    clone = Project(project.root.with_name("clone"))
    project.run("git", "clone", "--quiet", *options, str(project.root), str(clone.root))
    return clone


def _clone_and_pull(project: Project) -> Project:
    remote = project.root.with_name("remote")
    project.run("dvc", "remote", "add", "--default", "storage", str(remote))
    project.run("git", "commit", "--quiet", "--all", "--message", "Share")
    project.run("dvc", "push")
    clone = _clone(project)
    clone.run("dvc", "pull")
    return clone


def _clone_with_shared_cache(project: Project) -> Project:
    clone = _clone(project)
    clone.run("dvc", "config", "--local", "cache.dir", str(project.root / ".dvc/cache"))
    clone.run("dvc", "checkout")
    return clone


def _delete_store(project: Project) -> Project:
    (project.root / "mlflow.db").unlink()
    return project


def _delete_artifacts(project: Project) -> Project:
    shutil.rmtree(project.root / "mlruns")
    return project


def _delete_model(project: Project) -> Project:
    _client(project).delete_registered_model(NAME)
    return project


def _delete_version(project: Project) -> Project:
    _client(project).delete_model_version(NAME, "1")
    return project


@pytest.mark.parametrize(
    "lose",
    [_clone_and_pull, _clone_with_shared_cache, _delete_store],
)
def test_repro_registers_a_version_that_the_store_lacks(
    project: Project, lose: Callable[[Project], Project]
) -> None:
    left = lose(project)
    _run_what_repro_runs(left)
    client = _client(left)
    version = str(_champion(client).version)
    assert _versions(client)[-1] == version
    _assert_serves_the_weights(left, client, version)
    assert left.run("git", "diff", "--name-only").stdout == "", "dvc.lock has the same digests"


@pytest.mark.parametrize("lose", [_delete_artifacts, _delete_model, _delete_version])
def test_what_was_deleted_by_hand_is_registered_again(
    finished: Project, tmp_path: Path, lose: Callable[[Project], Project]
) -> None:
    """Also in a folder whose name an address has to quote."""
    project = finished.copy(tmp_path / "what? 50% #1")
    lose(project).cli("register")
    client = _client(project)
    version = str(_champion(client).version)
    assert _versions(client)[-1] == version
    _assert_serves_the_weights(project, client, version)


def test_repro_registers_in_another_store(project: Project, tmp_path: Path) -> None:
    uri = sqlite_address(tmp_path / "team.db")
    repro = project.start("dvc", "repro", MLFLOW_TRACKING_URI=uri)
    assert "version 1 is champion" in repro.communicate()[0]
    client = MlflowClient(uri)
    _assert_serves_the_weights(project, client, str(_champion(client).version))
    assert _versions(_client(project)) == ["1"]


def test_a_store_has_one_version_of_the_same_content(project: Project) -> None:
    client = _client(project)
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = len(client.search_runs(experiments))
    code = (
        "import sys; from person_attributes.cli import main; assert main(['register']) == 0;"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    output = project.run(sys.executable, "-c", code).stdout
    assert "version 1 already has this content and is champion\n" in output
    assert _versions(client) == ["1"]
    assert len(client.search_runs(experiments)) == runs, "no run if nothing was done"


@pytest.mark.parametrize("has_alias", [False, True])
def test_interrupted_checks_of_a_version_run_again(project: Project, *, has_alias: bool) -> None:
    client = _client(project)
    client.delete_model_version_tag(NAME, "1", "gate.settled")
    if not has_alias:
        client.delete_registered_model_alias(NAME, ALIAS)
        for tag in client.get_model_version(NAME, "1").tags:
            if tag.startswith(("gate.", "champion.since")):
                client.delete_model_version_tag(NAME, "1", tag)
    assert "version 1 is champion: there was no champion" in project.cli("register").stdout
    assert _versions(client) == ["1"]
    _assert_serves_the_weights(project, client, "1")


def test_a_removed_alias_stays_removed_and_is_reported(project: Project) -> None:
    client = _client(project)
    client.delete_registered_model_alias(NAME, ALIAS)
    assert "was champion; no version is now" in project.cli("register").stdout
    with pytest.raises(MlflowException):
        _champion(client)
    refused = project.cli("summarize", code=2)
    assert "serve the model" not in refused.stdout
    assert "no version in the store has the alias champion" in refused.stderr
    assert "person-attributes promote 1" in refused.stderr
    project.cli("promote", "1")
    assert "serve the model" in project.cli("summarize").stdout


def test_an_earlier_commit_finds_its_version(project: Project) -> None:
    client = _client(project)
    change_params(project.params_file, {"phases.p5.learning_rate": 0.01})
    project.execute("train@p5", "select", "evaluate", "register")
    project.commit("Another rate")
    assert _versions(client) == ["1", "2"]
    champion = str(_champion(client).version)
    for revision in ("HEAD~1", "-"):
        project.run("git", "checkout", "--quiet", revision)
        project.run("dvc", "checkout")
        _run_what_repro_runs(project)
    assert _versions(client) == ["1", "2"]
    assert str(_champion(client).version) == champion


@pytest.mark.parametrize("way", [[], ["--temp"], ["--queue"]], ids=["workspace", "temp", "queue"])
def test_an_experiment_registers_its_version_and_is_shown(project: Project, way: list[str]) -> None:
    key = "registry.served_rows"
    project.run("dvc", "exp", "run", *way, "-S", f"{key}=8", "--name", "fewer")
    if way == ["--queue"]:
        project.run("dvc", "queue", "start")
        project.run("dvc", "queue", "logs", "--follow", "fewer")
    client = _client(project)
    assert _versions(client) == ["1", "2"]
    _assert_serves_the_weights(project, client, "2")
    shown = project.run("dvc", "exp", "show", "--csv").stdout.splitlines()
    (row,) = [row for row in csv.DictReader(shown) if row["Experiment"] == "fewer"]
    assert float(row[key]) == 8
    assert 0 <= float(row["mean_accuracy"]) <= 1
    project.run("dvc", "exp", "apply", "fewer")
    _run_what_repro_runs(project)
    assert _versions(client) == ["1", "2"]


def test_a_command_without_a_champion_explains_how_to_get_one(project: Project) -> None:
    _client(project).delete_registered_model(NAME)
    for command in (["models"], ["summarize"], ["predict", "data/sample", "out.csv"]):
        refused = project.cli(*command, code=2)
        assert refused.stderr.count("\n") == 1
        assert "Run dvc repro" in refused.stderr
