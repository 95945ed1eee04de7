"""The summary of an evaluation that cannot be read."""

from pathlib import Path

import pytest

from person_attributes.commands.summarize import summarize
from person_attributes.config import Params
from person_attributes.errors import ComparisonError
from person_attributes.workspace import Workspace


@pytest.mark.parametrize("metrics", ["{", "{}", "[]", '{"loss": 1.0}'])
@pytest.mark.parametrize("heads", ["", "unreadable", "head,accuracy\na,0.5\n"])
def test_an_unreadable_evaluation_is_refused_in_one_line(
    tmp_path: Path, params: Params, metrics: str, heads: str
) -> None:
    workspace = Workspace(tmp_path)
    workspace.metrics.parent.mkdir()
    workspace.metrics.write_text(metrics, encoding="utf-8")
    workspace.heads.write_text(heads, encoding="utf-8")
    with pytest.raises(ComparisonError, match=r"^reports/metrics.json, .* Run dvc repro\.$"):
        summarize(workspace, params)
