"""Finds confident errors, uncertain correct predictions and label issues."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Example:
    """One prediction of one head.

    Attributes:
        position: Position of the row among the scored rows.
        row: Row number.
        label: Annotated class.
        answer: Predicted class.
        answer_number: Number of the predicted class.
        probability: Probability of the predicted class.
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
    """Finds the most confident errors of one head, most confident first."""
    return _find(predictions, head, classes, count, is_right=False)


def find_least_confident_correct(
    predictions: Predictions, head: str, classes: Sequence[str], count: int
) -> list[Example]:
    """Finds the least confident correct predictions of one head, least confident first."""
    return _find(predictions, head, classes, count, is_right=True)


def _find(
    predictions: Predictions, head: str, classes: Sequence[str], count: int, *, is_right: bool
) -> list[Example]:
    y_true, y_prob = predictions.y_true[head], predictions.y_prob[head]
    truth, answer, confidence = y_true.argmax(axis=1), y_prob.argmax(axis=1), y_prob.max(axis=1)
    found = np.flatnonzero(((truth == answer) == is_right) & y_true.any(axis=1))
    order = np.argsort(confidence[found] if is_right else -confidence[found], kind="stable")
    return [
        Example(
            position=int(position),
            row=int(predictions.rows[position]),
            label=classes[truth[position]],
            answer=classes[answer[position]],
            answer_number=int(answer[position]),
            probability=float(confidence[position]),
        )
        for position in found[order][:count]
    ]


def find_label_issues(predictions: Predictions, head: str, classes: Sequence[str]) -> pd.DataFrame:
    """Finds label issues with confident learning (Northcutt et al. 2021), using cleanlab.

    The threshold of a class is its mean probability on the rows with its label. The number of wrong
    labels is estimated from the rows on which another class reaches its threshold. The issues are
    that many rows, with the largest margins between the other class and the label. The rows must
    not have been used for training.

    Returns:
        One row per issue, lowest probability of the label first: `row`, `head`, `label`, `answer`
        (the predicted class), `label_probability` and `answer_probability`.
    """
    from cleanlab.filter import find_label_issues

    y_true, y_prob = predictions.y_true[head], predictions.y_prob[head]
    labelled = np.flatnonzero(y_true.any(axis=1))
    truth = y_true[labelled].argmax(axis=1)
    found: npt.NDArray[np.intp] = np.empty(0, np.intp)
    if len(np.unique(truth)) > 1:
        with warnings.catch_warnings():
            # cleanlab warns about classes with few labels.
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
