"""Errors of the store are one line with advice that fits the cause."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from person_attributes.errors import TrackingError
from person_attributes.registry.weights import fetch_weights
from person_attributes.tracking.connection import (
    choose_experiment,
    connect,
    translate_mlflow_errors,
)
from person_attributes.tracking.runs import open_run
from person_attributes.workspace import Workspace


@pytest.fixture
def impatient(shell: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_an_unreachable_server_gives_the_advice_to_start_it(
    workspace: Workspace, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="Start the server, or correct MLFLOW_TRACKING_URI"):
        connect(workspace)


def test_a_server_that_fails_gives_the_advice_to_read_its_log(
    workspace: Workspace, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500)

    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(TrackingError, match=r": ResponseError\('too many 500 .* read its log"):
            connect(workspace)
        server.shutdown()


def test_another_error_does_not_give_the_advice_to_start_a_server(workspace: Workspace) -> None:
    client = connect(workspace)
    refused = pytest.raises(TrackingError, match=r"shop/colours.*'/' or ':'\.$")
    with refused as error, translate_mlflow_errors():
        client.create_registered_model("shop/colours")
    assert str(error.value).startswith(f"MLflow at {workspace.tracking_database}: ")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "MLFLOW_EXPERIMENT_ID",
            "999",
            r"id=999 exists\. Correct or unset MLFLOW_EXPERIMENT_ID, and",
        ),
        ("MLFLOW_TRACKING_URI", "foo://x", r"unsupported URI .*Correct MLFLOW_TRACKING_URI, and"),
        (
            "MLFLOW_TRACKING_URI",
            "./mlruns",
            r"^MLflow at \./mlruns: .*such as sqlite:///mlflow\.db",
        ),
        (
            "MLFLOW_TRACKING_URI",
            "127.0.0.1:9",
            r"Set MLFLOW_TRACKING_URI to a server, such as http:/",
        ),
        ("MLFLOW_TRACKING_URI", "http://[::1", r"Invalid IPv6 URL\. Correct MLFLOW_TRACKING_URI"),
        (
            "MLFLOW_TRACKING_URI",
            "mysql://u@h/x",
            r"'MySQLdb'\. Install the driver of this database",
        ),
        (
            "MLFLOW_TRACKING_URI",
            "http://u:secret@127.0.0.1:9",
            r"http://\*\*\*@127.*Start the server",
        ),
        (
            "MLFLOW_TRACKING_URI",
            "postgresql+psycopg://u:secret@127.0.0.1:9/x",
            r"psycopg://\*\*\*@127.*Start the server",
        ),
        ("MLFLOW_TRACKING_URI", "http://u:x@secret@127.0.0.1:9", r"http://\*\*\*@127.*Start the"),
        ("MLFLOW_TRACKING_URI", "sqlite:a.db", r"^MLflow at sqlite:a\.db: .*Correct MLFLOW_TRACK"),
        ("MLFLOW_TRACKING_URI", "sqlite://a.db", r"^MLflow at sqlite://a\.db: Invalid SQLite URL"),
        ("MLFLOW_EXPERIMENT_ID", "abc", r"ID 'abc'.* Correct or unset MLFLOW_EXPERIMENT_ID, and"),
    ],
)
def test_the_advice_fits_the_variable(
    workspace: Workspace,
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(variable, value)
    refused = pytest.raises(TrackingError, match=message)
    with refused as error, open_run("split", workspace, {}, {}, inputs={}, writes=[]):
        pass
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:9", "TRACKING_URI and MLFLOW_REGISTRY_URI, and run"),
        ("foo://x", "'foo://x'.* Correct or unset MLFLOW_REGISTRY_URI, and run"),
    ],
)
def test_an_unusable_registry_gives_the_advice_to_correct_its_address(
    workspace: Workspace,
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    message: str,
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", address)
    client = connect(workspace)
    refused = pytest.raises(TrackingError, match=message)
    with refused, translate_mlflow_errors():
        client.search_registered_models()


def test_a_deleted_experiment_is_reported_with_the_command_that_restores_it(
    workspace: Workspace,
) -> None:
    client = connect(workspace)
    experiment = choose_experiment(client, workspace)
    client.delete_experiment(experiment)
    with pytest.raises(
        TrackingError,
        match=rf"'person-attributes' was deleted\. Run mlflow experiments restore "
        rf"--experiment-id {experiment}, or set MLFLOW_EXPERIMENT_NAME to another name",
    ):
        choose_experiment(client, workspace)


def test_a_deleted_experiment_that_is_named_by_its_id_is_another_id(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id takes precedence over a name."""
    client = connect(workspace)
    experiment = client.create_experiment("old")
    client.delete_experiment(experiment)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    with pytest.raises(TrackingError, match=r"'old' was deleted.* or correct or unset MLFLOW_EXP"):
        choose_experiment(client, workspace)


def test_weights_on_an_unreachable_server_give_the_advice_to_start_it(
    tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="Start the server, or correct MLFLOW_TRACKING_URI"):
        fetch_weights("models:/signs@champion", tmp_path)


@pytest.mark.parametrize(
    ("pragma", "message"),
    [
        ("query_only = true", r"readonly.*Get write permission"),
        ("max_page_count = 1", r"full.*Free some disk space"),
    ],
)
def test_an_unwritable_store_is_reported_in_one_line(
    workspace: Workspace, pragma: str, message: str
) -> None:
    client = connect(workspace)
    with client._tracking_client.store.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA {pragma}")
    refused = pytest.raises(TrackingError, match=message)
    with refused as error, translate_mlflow_errors():
        client.create_experiment("another", tags={f"{n}": "x" * 4000 for n in range(500)})
    assert "\n" not in str(error.value)
