"""Promotions and rollbacks in a real registry."""

import multiprocessing
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from person_attributes.commands.models import format_versions
from person_attributes.commands.promote import promote
from person_attributes.config import Params
from person_attributes.errors import RegistryError
from person_attributes.evaluation.gate import Condition
from person_attributes.evaluation.predictions import Predictions
from person_attributes.registry.promotion import Registered, Registry, check_against_champion
from person_attributes.tracking.database import sqlite_address
from person_attributes.workspace import Workspace

NAME = "person-attributes"
HOLDS, FAILS = Condition("rule", "x", "x", True), Condition("rule", "x", "y", False)
METRICS = {"mean_accuracy": 0.8123, "loss": 3.5, "mean_ece": 0.09}
METRICS |= {"calibrated_loss": 3.3, "mean_calibrated_ece": 0.04}


@pytest.fixture
def client(tmp_path: Path, empty_store: Path) -> MlflowClient:
    shutil.copy(empty_store, tmp_path)
    client = MlflowClient(sqlite_address(tmp_path / "mlflow.db"))
    client.create_registered_model(NAME)
    for number in ("1", "2", "3"):
        _model_file(tmp_path, number).parent.mkdir()
        _model_file(tmp_path, number).touch()
        client.create_model_version(NAME, _model_file(tmp_path, number).parent.as_uri())
    return client


def _model_file(folder: Path, number: str) -> Path:
    return folder / f"model-{number}" / "MLmodel"


@pytest.fixture
def registry(client: MlflowClient, tmp_path: Path, params: Params) -> Registry:
    return Registry(client, Workspace(tmp_path), params.registry)


def _champion(registry: Registry) -> str:
    champion = registry.find_champion()
    return str(champion.version) if champion else ""


def test_a_version_is_champion_if_every_condition_holds(
    registry: Registry, client: MlflowClient
) -> None:
    assert _champion(registry) == ""
    first = registry.settle("1", [HOLDS], [])
    assert (first.is_champion, first.reason) == (True, "there was no champion")
    second = registry.settle("2", [HOLDS], [HOLDS, FAILS])
    assert not second.is_champion
    assert second.reason == "rule: expected x, received y"
    assert _champion(registry) == "1"
    assert registry.settle("3", [HOLDS], [HOLDS]).is_champion
    assert _champion(registry) == "3"
    version = client.get_model_version(NAME, "2")
    assert version.tags["gate.promoted"] == "false"
    assert "| rule | x | y | **no** |" in str(version.description)


def test_a_champion_whose_decision_was_interrupted_is_not_compared_with_itself(
    registry: Registry, client: MlflowClient
) -> None:
    """Compared with itself, it would gain nothing."""
    registry.settle("1", [HOLDS], [])
    client.delete_model_version_tag(NAME, "1", "gate.settled")
    assert registry.confirm("2") is None
    assert registry.confirm("1") == Registered("1", True, "there was no champion")
    assert registry.is_settled(registry.find("1"))
    assert len(registry.list_champion_periods()) == 1


def test_a_champion_without_files_is_not_servable(registry: Registry, tmp_path: Path) -> None:
    registry.settle("1", [HOLDS], [])
    assert registry.require_champion().version == registry.find("1").version
    for number in ("1", "2", "3"):
        _model_file(tmp_path, number).unlink()
    with pytest.raises(RegistryError, match=r"files are missing in the store\. Run dvc repro"):
        registry.require_champion()


def test_a_champion_without_files_is_replaced_without_a_comparison(
    registry: Registry, tmp_path: Path, params: Params
) -> None:
    nothing, workspace = Predictions(np.array([], dtype=np.int64), {}, {}), Workspace(tmp_path)
    assert check_against_champion(registry, nothing, workspace, params) == []
    registry.settle("1", [HOLDS], [])
    _model_file(tmp_path, "1").unlink()
    (condition,) = check_against_champion(registry, nothing, workspace, params)
    assert condition.holds
    assert "files of version 1: expected in the store, or no comparison" in str(condition)


def test_a_first_version_must_pass_its_own_conditions(registry: Registry) -> None:
    assert not registry.settle("1", [FAILS], []).is_champion
    assert _champion(registry) == ""
    assert not registry.is_sound(registry.find("1"))


def test_rollback_sets_the_alias_to_the_previous_champion(registry: Registry) -> None:
    for number in ("1", "2", "3"):
        registry.set_alias(number, "better")
    assert registry.roll_back().version == _champion(registry) == "2"
    assert [period.version for period in registry.list_champion_periods()] == ["1", "2", "3", "2"]
    assert registry.list_champion_periods()[-1].reason == "rolled back from version 3"


def test_a_second_rollback_goes_back_further(registry: Registry) -> None:
    for number in ("1", "2", "3"):
        registry.set_alias(number, "better")
    assert [registry.roll_back().version for _ in range(2)] == ["2", "1"]
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.roll_back()


def test_a_rollback_skips_versions_whose_files_are_missing(
    registry: Registry, tmp_path: Path
) -> None:
    for number in ("1", "2", "3"):
        registry.set_alias(number, "better")
    _model_file(tmp_path, "2").unlink()
    assert registry.roll_back().version == _champion(registry) == "1"


def test_a_version_whose_files_are_missing_is_not_promoted(
    shell: None, registry: Registry, tmp_path: Path, params: Params
) -> None:
    _model_file(tmp_path, "2").unlink()
    with pytest.raises(RegistryError, match=r"2: its files are missing in the store.* another"):
        promote(Workspace(tmp_path), params, "2", because="the best")
    assert _champion(registry) == ""


def test_a_reason_is_one_line(
    shell: None, registry: Registry, tmp_path: Path, params: Params
) -> None:
    promote(Workspace(tmp_path), params, "02", because="the best\nof all")
    assert format_versions(registry, NAME, "champion").count("by hand: the best of all") == 1
    with pytest.raises(RegistryError, match=r"did not finish\. Give a reason with --because"):
        promote(Workspace(tmp_path), params, "1", because=" ")


def test_a_long_card_leaves_room_for_the_verdict(registry: Registry, client: MlflowClient) -> None:
    """Tracking servers refuse descriptions of more than 5000 characters."""
    registry.describe("1", METRICS, "abc", "# Card\n" + "| a row of the card |\n" * 400)
    registry.settle("1", [HOLDS], [])
    text = str(client.get_model_version(NAME, "1").description)
    assert len(text) <= 5000
    assert text.startswith("# Card")
    assert "model_card.md" in text
    assert text.endswith("| rule | x | x | yes |")


def test_an_alias_set_by_another_program_is_shown(registry: Registry, client: MlflowClient) -> None:
    registry.set_alias("1", "better")
    client.set_registered_model_alias(NAME, "champion", "2")
    lines = format_versions(registry, NAME, "champion").splitlines()
    number = next(n for n, line in enumerate(lines) if line.startswith("2 "))
    assert lines[number + 1].strip() == "champion: the alias was set by another program"


def test_rollback_without_an_earlier_champion_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.roll_back()
    registry.set_alias("1", "better")
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.roll_back()
    assert _champion(registry) == "1"


def test_the_list_shows_the_champion_since_when_and_why(registry: Registry) -> None:
    registry.describe("2", METRICS, "abc", "# Card")
    registry.settle("2", [HOLDS], [])
    text = format_versions(registry, NAME, "champion")
    assert "calibrated   uncalibrated" in text
    assert "0.812   3.300  0.040   3.500  0.090  there was no champion" in text
    since = registry.list_champion_periods()[0].since[:16]
    assert f"champion since {since} UTC: there was no champion" in text
    assert text.index("\n3 ") < text.index("\n2 ") < text.index("\n1 ")


def test_an_unknown_version_is_one_line(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="no such version"):
        registry.find("77")


def test_an_unreachable_server_is_not_a_missing_champion(tmp_path: Path, params: Params) -> None:
    """Otherwise every version would become champion while the registry is unreachable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        registry = Registry(
            MlflowClient("http://127.0.0.1:9"), Workspace(tmp_path), params.registry
        )
        with pytest.raises(mlflow.exceptions.MlflowException):
            registry.find_champion()


def _promote(root: Path, params: Params, number: str, times: int) -> None:
    client = MlflowClient(sqlite_address(root / "mlflow.db"))
    registry = Registry(client, Workspace(root), params.registry)
    for _ in range(times):
        with registry.lock():
            before = _champion(registry)
            registry.set_alias(number, f"after {before}")


def test_concurrent_promotions_run_one_after_the_other(
    registry: Registry, tmp_path: Path, params: Params
) -> None:
    """Each promotion reads the champion that the previous one set."""
    context = multiprocessing.get_context("spawn")
    both = [
        context.Process(target=_promote, args=(tmp_path, params, number, 5))
        for number in ("1", "2")
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    periods = registry.list_champion_periods()
    assert len(periods) == 10
    before = ""
    for period in periods:
        assert period.reason == f"after {before}"
        before = period.version
    assert _champion(registry) == before


def test_a_calibration_error_of_another_definition_is_not_listed(
    registry: Registry, client: MlflowClient
) -> None:
    """Versions without `mean_ece` have a plain ECE, which is higher than a debiased one."""
    older = {"mean_accuracy": 0.8123, "loss": 3.5, "mean_calibrated_ece": 0.046}
    for name, value in older.items():
        client.set_model_version_tag(NAME, "1", name, str(value))
    text = format_versions(registry, NAME, "champion")
    assert "0.812                  3.500" in text
    assert "0.046" not in text
