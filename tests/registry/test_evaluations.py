"""Evaluations that cannot be read."""

from pathlib import Path

import numpy as np
import pytest

from person_attributes.errors import ComparisonError
from person_attributes.evaluation.predictions import Predictions
from person_attributes.registry.evaluations import find_evaluated
from person_attributes.workspace import Workspace


@pytest.mark.parametrize("length", [0, 99, -30])
def test_damaged_predictions_are_refused_in_one_line(tmp_path: Path, length: int) -> None:
    workspace = Workspace(tmp_path)
    workspace.params.write_text("seed: 1\n", encoding="utf-8")
    workspace.predictions.parent.mkdir(parents=True)
    arrays = {"a": np.eye(2, dtype=np.float32)}
    Predictions(np.arange(2), arrays, arrays).write(workspace.predictions)
    assert find_evaluated(workspace, "workspace").params == {"seed": "1"}
    content = workspace.predictions.read_bytes()
    workspace.predictions.write_bytes(content[:length])
    with pytest.raises(ComparisonError, match=r"^workspace: predictions.npz is damaged\. Run"):
        find_evaluated(workspace, "workspace")
