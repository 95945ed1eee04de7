"""The appearance of an experiment in the MLflow UI: description, columns and order."""

import json
from collections.abc import Mapping

from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

_KIND = "mlflow.experimentKind"
"""Without this tag the UI asks for the kind of experiment and offers menus for chat models."""

_TAG_LENGTH = 500
"""Maximum number of characters of a tag that is shown in a column."""

_SHARE, _VIEW = "viewStateShareKey", "best"
_SHARED_VIEW = f"mlflow.sharedViewState.{_VIEW}"
"""Tag with a shared view of the UI; the URL parameter `?viewStateShareKey=best` opens it."""

CHANGES = "changes"
"""Tag of an execution: the parameters that differ from the previous complete one."""

KIND, EXECUTION, TRIAL = "kind", "execution", "trial"
"""Tag of runs above stages: sorted lists of the UI are not nested."""

_NOTE = """\
Each row is one execution of the pipeline, such as a `dvc repro`; expand it to see its stages.

- **Best executions:** [the view *best*](#/experiments/{experiment}/runs?{share}={view}) sorts
  executions by `mean_accuracy` on validation rows. It also shows the sum of the heads'
  cross-entropies after and before temperature scaling (`calibrated_loss`, `loss`; lower is
  better), the mean calibration error, the parameters that changed since the previous execution,
  and the decision of the gate.
- **Comparison by head:** select two rows and click *Compare*. `person-attributes compare RUN_ID
  RUN_ID` tests whether the differences are significant.
- **Report:** open the `evaluate` run of an execution, then *Artifacts*, `index.html`.
"""


def arrange_experiment(client: MlflowClient, experiment: str) -> None:
    """Adds a description and the view of the best executions to an experiment.

    Existing tags are kept.
    """
    view = {
        "searchFilter": f"tags.{KIND} = '{EXECUTION}'",
        "orderByKey": "metrics.`mean_accuracy`",
        "orderByAsc": False,
        "selectedColumns": [
            "attributes.`Created`",
            "metrics.`mean_accuracy`",
            "metrics.`calibrated_loss`",
            "metrics.`loss`",
            "metrics.`mean_calibrated_ece`",
            f"tags.`{CHANGES}`",
            "tags.`gate.reason`",
            "tags.`registered_version`",
        ],
    }
    tags = {
        _KIND: "custom_model_development",
        MLFLOW_RUN_NOTE: _NOTE.format(experiment=experiment, share=_SHARE, view=_VIEW),
        _SHARED_VIEW: json.dumps(view),
    }
    present = client.get_experiment(experiment).tags
    for key, value in tags.items():
        if key not in present:
            client.set_experiment_tag(experiment, key, value)


def name_metric(metric: str) -> str:
    """Adds the group of a metric in the UI, the part of its name before a `/`."""
    if metric.endswith(("_low", "_high")):
        return f"intervals/{metric}"
    return f"test/{metric}" if metric.startswith("test_") else metric


def describe_changes(before: Mapping[str, str] | None, after: Mapping[str, str]) -> str:
    """Describes the parameters that differ between two executions, within a tag's length."""
    if before is None:
        return "first execution"
    keys = sorted(before.keys() | after.keys())
    changed = [
        f"{key}: {before.get(key, '-')} -> {after.get(key, '-')}"
        for key in keys
        if before.get(key) != after.get(key)
    ]
    text = "; ".join(changed) or "no changes"
    return text if len(text) <= _TAG_LENGTH else f"{text[: _TAG_LENGTH - 1]}…"
