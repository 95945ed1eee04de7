"""The summary of an evaluation that cannot be read."""

from pathlib import Path

import pytest

from person_attributes.commands.summarize import summarize
from person_attributes.config import Params
from person_attributes.errors import ComparisonError
from person_attributes.evaluation.scores import read_heads
from person_attributes.workspace import Workspace


def test_the_name_of_a_head_may_look_like_a_missing_value(tmp_path: Path) -> None:
    (tmp_path / "heads.csv").write_text("head,accuracy,ece\nnull,0.5,\nnan,0.25,0.1\n")
    heads = read_heads(tmp_path / "heads.csv")
    assert list(heads.index) == ["null", "nan"]
    assert heads["ece"].isna().tolist() == [True, False]


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
