"""What is said where the store fails: one line, with advice that fits the cause."""

import pytest

from person_attributes.errors import TrackingError
from person_attributes.tracking.connection import connect, translate_mlflow_errors
from person_attributes.workspace import Workspace


@pytest.fixture
def impatient(shell: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_a_server_that_does_not_answer_is_to_be_started(
    workspace: Workspace, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="Start that server, or correct MLFLOW_TRACKING_URI"):
        connect(workspace)


def test_an_error_that_no_server_causes_does_not_ask_to_start_one(workspace: Workspace) -> None:
    client = connect(workspace)
    words = pytest.raises(TrackingError, match=r"shop/colours.*Correct that")
    with words as told, translate_mlflow_errors():
        client.create_registered_model("shop/colours")
    assert "Start that server" not in str(told.value)
    assert str(told.value).startswith(f"MLflow at {workspace.tracking_database}: ")


@pytest.mark.parametrize(
    ("pragma", "words"),
    [
        ("query_only = true", r"readonly.*Ask for the right to write there"),
        ("max_page_count = 1", r"full.*Free some room"),
    ],
)
def test_a_store_that_cannot_be_written_is_one_line(
    workspace: Workspace, pragma: str, words: str
) -> None:
    client = connect(workspace)
    with client._tracking_client.store.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA {pragma}")
    refused = pytest.raises(TrackingError, match=words)
    with refused as told, translate_mlflow_errors():
        client.create_experiment("another", tags={f"{n}": "x" * 4000 for n in range(500)})
    assert "\n" not in str(told.value)
