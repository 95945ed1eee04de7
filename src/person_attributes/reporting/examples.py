"""Rows worth a look: sure mistakes, lucky hits, and labels that look wrong."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Example:
    """One answer of one head.

    Attributes:
        position: Of the row among the scored ones.
        row: Its number.
        label: What the annotation says.
        answer: What the network says.
        answer_number: Its class number.
        probability: How sure the network is.
    """

    position: int
    row: int
    label: str
    answer: str
    answer_number: int
    probability: float


def find_most_confident_errors(
    predictions: Predictions, head: str, classes: Sequence[str], count: int
) -> list[Example]:
    """Finds the wrong answers of one head that the network is surest of, surest first."""
    return _find(predictions, head, classes, count, is_right=False)


def find_least_confident_correct(
    predictions: Predictions, head: str, classes: Sequence[str], count: int
) -> list[Example]:
    """Finds the right answers of one head that the network is least sure of, that one first."""
    return _find(predictions, head, classes, count, is_right=True)


def _find(
    predictions: Predictions, head: str, classes: Sequence[str], count: int, *, is_right: bool
) -> list[Example]:
    y_true, y_prob = predictions.y_true[head], predictions.y_prob[head]
    truth, answer, certainty = y_true.argmax(axis=1), y_prob.argmax(axis=1), y_prob.max(axis=1)
    found = np.flatnonzero(((truth == answer) == is_right) & y_true.any(axis=1))
    order = np.argsort(certainty[found] if is_right else -certainty[found], kind="stable")
    return [
        Example(
            position=int(position),
            row=int(predictions.rows[position]),
            label=classes[truth[position]],
            answer=classes[answer[position]],
            answer_number=int(answer[position]),
            probability=float(certainty[position]),
        )
        for position in found[order][:count]
    ]


def find_label_issues(predictions: Predictions, head: str, classes: Sequence[str]) -> pd.DataFrame:
    """Finds labels that look wrong, by confident learning: Northcutt et al. 2021, with cleanlab.

    A label counts as suspicious where the network, which never saw the row, is surer of another
    class than it is on average of rows that are labelled so.

    Returns:
        One row a label, the least credible first: `row`, `head`, `label`, `answer`,
        `label_probability` and `answer_probability`.
    """
    from cleanlab.filter import find_label_issues

    y_true, y_prob = predictions.y_true[head], predictions.y_prob[head]
    labelled = np.flatnonzero(y_true.any(axis=1))
    truth = y_true[labelled].argmax(axis=1)
    found: npt.NDArray[np.intp] = np.empty(0, np.intp)
    if len(np.unique(truth)) > 1:
        with warnings.catch_warnings():
            # Of classes with few labels it says that it may find less.
            warnings.simplefilter("ignore", UserWarning)
            found = find_label_issues(
                truth, y_prob[labelled], return_indices_ranked_by="self_confidence", n_jobs=1
            )
    positions = labelled[found]
    answers = y_prob[positions].argmax(axis=1)
    return pd.DataFrame(
        {
            "row": predictions.rows[positions],
            "head": head,
            "label": np.array(classes, dtype=object)[y_true[positions].argmax(axis=1)],
            "answer": np.array(classes, dtype=object)[answers],
            "label_probability": y_prob[positions][y_true[positions] > 0].round(4),
            "answer_probability": y_prob[positions].max(axis=1).round(4),
        }
    )
