"""Values of MLflow's environment variables are checked before MLflow reads them."""

import pytest

from person_attributes.errors import TrackingError
from person_attributes.tracking.variables import refuse_invalid_variables


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_CONFIGURE_LOGGING", "abc"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "abc"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "100"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "-1"),
        ("MLFLOW_LOGGING_LEVEL", "loud"),
        ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "many"),
        ("MLFLOW_TRACKING_INSECURE_TLS", "maybe"),
    ],
)
def test_a_value_that_mlflow_cannot_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    refused = pytest.raises(TrackingError, match=rf"{name}.*{value}.* Correct or unset ")
    with refused as error:
        refuse_invalid_variables()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("level", ["debug", "WARN", ""])
def test_levels_that_mlflow_accepts_are_accepted(
    monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", level)
    refuse_invalid_variables()
