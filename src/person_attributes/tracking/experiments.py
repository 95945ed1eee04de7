"""How an experiment meets a stranger in the MLflow UI: what it is, which columns, what order."""

import json
from collections.abc import Mapping

from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

_KIND = "mlflow.experimentKind"
"""Else the UI asks whether this is about chat, and shows menus of that."""

_TAG_LENGTH = 500
"""Characters; more is not looked at in a cell."""

_SHARE, _VIEW = "viewStateShareKey", "best"
_SHARED_VIEW = f"mlflow.sharedViewState.{_VIEW}"
"""Where the UI keeps a view that was shared; it opens with `?viewStateShareKey=best`."""

CHANGES = "changes"
"""Tag of an execution: the parameters that differ from the finished one before it."""

KIND, EXECUTION, TRIAL = "kind", "execution", "trial"
"""Tag of runs that stand above stages: sorted lists of the UI do not nest."""

_NOTE = """\
Each row is one execution of the pipeline, such as a `dvc repro`; unfold it for its stages.

- **Which is best, and why:** [the view *best*](#/experiments/{experiment}/runs?{share}={view}).
  Executions by `mean_accuracy` on validation rows, beside `loss` (the plain sum of the heads'
  cross-entropies; lower is better), the parameters that changed since the execution before, and
  what the gate said.
- **Head by head:** tick two rows, *Compare*. `person-attributes compare RUN_ID RUN_ID` tells
  whether it is more than chance.
- **To look at:** open a row's `evaluate`, then *Artifacts*, `index.html`.
"""


def arrange_experiment(client: MlflowClient, experiment: str) -> None:
    """Describes an experiment and gives it a view of its best executions.

    What people wrote there before stays as it is.
    """
    view = {
        "searchFilter": f"tags.{KIND} = '{EXECUTION}'",
        "orderByKey": "metrics.`mean_accuracy`",
        "orderByAsc": False,
        "selectedColumns": [
            "attributes.`Created`",
            "metrics.`mean_accuracy`",
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


def name_metric(figure: str) -> str:
    """Puts a figure into its group of the UI, which is what stands in front of a `/`."""
    if figure.endswith(("_low", "_high")):
        return f"intervals/{figure}"
    return f"test/{figure}" if figure.startswith("test_") else figure


def word_changes(before: Mapping[str, str] | None, after: Mapping[str, str]) -> str:
    """Says which parameters differ between two executions, in the space that a tag has."""
    if before is None:
        return "first execution"
    keys = sorted(before.keys() | after.keys())
    changed = [
        f"{key}: {before.get(key, '-')} -> {after.get(key, '-')}"
        for key in keys
        if before.get(key) != after.get(key)
    ]
    text = "; ".join(changed) or "no parameter"
    return text if len(text) <= _TAG_LENGTH else f"{text[: _TAG_LENGTH - 1]}…"
