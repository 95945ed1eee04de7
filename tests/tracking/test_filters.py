import pytest
from mlflow.tracking import MlflowClient

from person_attributes.errors import TrackingError
from person_attributes.tracking.connection import connect
from person_attributes.tracking.filters import quote_value
from person_attributes.workspace import Workspace

NAMES = [
    "O'Brien",
    'the 5" screen',
    "`ticks`",
    "back\\slash",
    "100%",
    "_",
    "東京 ümläut",
    "a--b; c",
    "'quoted'",
    '"quoted"',
]


@pytest.fixture
def client(workspace: Workspace) -> MlflowClient:
    return connect(workspace)


def test_only_models_and_runs_with_the_exact_name_are_found(client: MlflowClient) -> None:
    for name in NAMES:
        client.create_registered_model(name)
        client.create_model_version(name, "file:///nowhere")
        client.create_run("0", tags={"sweep": name, "also": "this"})
    for name in NAMES:
        (version,) = client.search_model_versions(f"name = {quote_value(name)}")
        assert version.name == name
        (run,) = client.search_runs(
            ["0"], f"tags.`sweep` = {quote_value(name)} and tags.also = {quote_value('this')}"
        )
        assert run.data.tags["sweep"] == name


@pytest.mark.parametrize("name", ["both ' and \"", "a trailing \\"])
def test_a_name_that_mlflow_cannot_search_for_is_refused(name: str) -> None:
    with pytest.raises(TrackingError, match="Rename it"):
        quote_value(name)
