from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.evaluation.predictions import Predictions
from person_attributes.reporting.examples import (
    find_label_issues,
    find_least_confident_correct,
    find_most_confident_errors,
)

_CLASSES = ["x", "y"]


def _predict(
    labels: list[int], probabilities: list[float], rows: list[int] | None = None
) -> Predictions:
    """Labels, -1 for none, and the probability of class 1 of each row."""
    y_true = np.eye(2, dtype=np.float32)[labels]
    y_true[np.array(labels) < 0] = 0
    second = np.array(probabilities, np.float32)
    y_prob = np.stack([1 - second, second], axis=1)
    numbers = np.array(rows or range(100, 100 + len(labels)))
    return Predictions(numbers, {"a": y_true}, {"a": y_prob})


def test_examples_are_ordered_by_confidence() -> None:
    predictions = _predict([0, 0, 1, 1, 0, -1], [0.9, 0.6, 0.7, 0.51, 0.1, 0.99])
    errors = find_most_confident_errors(predictions, "a", _CLASSES, 5)
    assert [error.row for error in errors] == [100, 101]
    assert (errors[0].label, errors[0].answer, errors[0].position) == ("x", "y", 0)
    assert errors[0].probability == pytest.approx(0.9)
    correct = find_least_confident_correct(predictions, "a", _CLASSES, 2)
    assert [one.row for one in correct] == [103, 102]


def test_swapped_labels_are_found(random: np.random.Generator) -> None:
    truth = random.integers(0, 2, 300)
    confidence = random.uniform(0.7, 0.98, 300)
    probabilities = np.where(truth == 1, confidence, 1 - confidence)
    labels = truth.copy()
    swapped = [5, 50, 150, 250]
    labels[swapped] = 1 - labels[swapped]
    table = find_label_issues(_predict(labels.tolist(), probabilities.tolist()), "a", _CLASSES)
    assert 3 <= len(table) <= 4  # confident learning estimates the number of issues
    assert set(table["row"]) <= {100 + position for position in swapped}
    first = table.iloc[0]
    assert first["label"] != first["answer"]
    assert first["label_probability"] < 0.5 < first["answer_probability"]


@pytest.mark.parametrize("labels", [[0, 0, 0], [-1, -1, -1], [0, -1, 1]])
def test_few_labels_or_a_single_class_give_no_issues(labels: list[int]) -> None:
    table = find_label_issues(_predict(labels, [0.2, 0.4, 0.9]), "a", _CLASSES)
    assert len(table) == 0


def test_predictions_survive_writing_and_reading(tmp_path: Path) -> None:
    predictions = _predict([0, -1, 1], [0.25, 0.5, 0.125], rows=[7, 3, 9])
    predictions.write(tmp_path / "a.npz")
    predictions.write(tmp_path / "b.npz")
    again = Predictions.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.rows, [7, 3, 9])
    pairs: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = [
        (again.y_true["a"], predictions.y_true["a"]),
        (again.y_prob["a"], predictions.y_prob["a"]),
    ]
    for read, written in pairs:
        np.testing.assert_array_equal(read, written)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
