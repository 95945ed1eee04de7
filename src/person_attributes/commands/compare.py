"""The command `compare`: compares two evaluations on the same rows."""

from person_attributes.config import Params
from person_attributes.evaluation.comparison import compare_predictions, format_comparison
from person_attributes.registry.evaluations import find_evaluated
from person_attributes.tracking.connection import translate_mlflow_errors
from person_attributes.workspace import Workspace


def compare(workspace: Workspace, params: Params, first: str, second: str) -> None:
    """Compares two evaluations on the same rows: metrics, parameters that differ, a verdict.

    Args:
        workspace: The project.
        params: The parameters of the confidence intervals.
        first: The baseline: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, the id of a run, a git
            revision, or `workspace` for the outputs in the project.
        second: The evaluation to compare with it, named in the same way.

    Raises:
        ComparisonError: If one cannot be found, or the two were not scored on the same rows.
            Name another one, or evaluate both on the same split.
    """
    with translate_mlflow_errors():
        before, after = find_evaluated(workspace, first), find_evaluated(workspace, second)
    comparison = compare_predictions(
        before.predictions, after.predictions, params.evaluation, params.seed
    )
    keys = sorted(before.params.keys() | after.params.keys())
    pairs = {key: (before.params.get(key, "-"), after.params.get(key, "-")) for key in keys}
    text = format_comparison(
        comparison,
        (before.name, after.name),
        {key: pair for key, pair in pairs.items() if pair[0] != pair[1]},
        params.evaluation.confidence,
    )
    print(text)
