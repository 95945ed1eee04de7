"""The command `summarize`: prints the last evaluation, the champion and the next commands."""

import json
import os
import shlex

from person_attributes.config import Params
from person_attributes.errors import ComparisonError
from person_attributes.evaluation.scores import read_heads
from person_attributes.pipeline.content import digest_content
from person_attributes.registry.promotion import open_registry
from person_attributes.reporting.report import format_table
from person_attributes.tracking.connection import hide_account
from person_attributes.workspace import Workspace


def summarize(workspace: Workspace, params: Params) -> None:
    """Prints the last evaluation, the champion and the next commands.

    Raises:
        RegistryError: If there is no champion to serve. Run `dvc repro` or promote a version.
        ComparisonError: If the evaluation cannot be read. Run `dvc repro`.
    """
    table = _format_evaluation(workspace)
    name, alias = params.registry.model_name, params.registry.alias
    print(f"\n{table}\n", flush=True)
    with open_registry(workspace, params.registry) as models:
        champion = models.require_champion()
        version = models.find_content(digest_content(workspace, params))
        verdict = "is not registered: run dvc repro"
        if version:
            verdict = f"is version {version.version} and {models.describe_verdict(version)}"
    print(f"report            {workspace.relative(workspace.evaluation_page)}")
    print(f"registered model  {name} version {champion.version}, alias {alias}")
    if version is None or version.version != champion.version:
        print(f"this network      {verdict}")
    print()
    environment = workspace.root / ".venv"
    if environment.exists() and os.environ.get("VIRTUAL_ENV") != str(environment):
        print("in this shell     source .venv/bin/activate")
    print(f"compare runs      {_find_user_interface()}")
    uri = shlex.quote(f"models:/{name}@{alias}")
    print(f"serve the model   mlflow models serve -m {uri} --env-manager uv --port 5001")


def _format_evaluation(workspace: Workspace) -> str:
    try:
        heads = read_heads(workspace.heads)
        metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
        return format_table(heads, metrics)
    except (KeyError, TypeError, ValueError):  # of another version of this project, or damaged
        raise ComparisonError(
            f"{workspace.relative(workspace.metrics)}, {workspace.relative(workspace.heads)}: not "
            "an evaluation of this version of the project. Run dvc repro."
        ) from None


def _find_user_interface() -> str:
    """Returns the address of the tracking server, or the command that starts a local MLflow UI."""
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    if server.startswith("http"):
        return hide_account(server)
    return "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1"
