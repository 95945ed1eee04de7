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


def _predict(labels: list[int], said: list[float], rows: list[int] | None = None) -> Predictions:
    """Labels, -1 for none, and how probable each row's class 1 is."""
    y_true = np.eye(2, dtype=np.float32)[labels]
    y_true[np.array(labels) < 0] = 0
    second = np.array(said, np.float32)
    y_prob = np.stack([1 - second, second], axis=1)
    numbers = np.array(rows or range(100, 100 + len(labels)))
    return Predictions(numbers, {"a": y_true}, {"a": y_prob})


def test_mistakes_come_surest_first_and_hits_least_sure_first() -> None:
    predictions = _predict([0, 0, 1, 1, 0, -1], [0.9, 0.6, 0.7, 0.51, 0.1, 0.99])
    mistakes = find_most_confident_errors(predictions, "a", _CLASSES, 5)
    assert [mistake.row for mistake in mistakes] == [100, 101]
    assert (mistakes[0].label, mistakes[0].answer, mistakes[0].position) == ("x", "y", 0)
    assert mistakes[0].probability == pytest.approx(0.9)
    assert [hit.row for hit in find_least_confident_correct(predictions, "a", _CLASSES, 2)] == [
        103,
        102,
    ]


def test_labels_that_were_exchanged_are_found(random: np.random.Generator) -> None:
    truth = random.integers(0, 2, 300)
    certainty = random.uniform(0.7, 0.98, 300)
    said = np.where(truth == 1, certainty, 1 - certainty)
    labels = truth.copy()
    exchanged = [5, 50, 150, 250]
    labels[exchanged] = 1 - labels[exchanged]
    table = find_label_issues(_predict(labels.tolist(), said.tolist()), "a", _CLASSES)
    assert 3 <= len(table) <= 4  # as many as it believes there are
    assert set(table["row"]) <= {100 + position for position in exchanged}
    first = table.iloc[0]
    assert first["label"] != first["answer"]
    assert first["label_probability"] < 0.5 < first["answer_probability"]


@pytest.mark.parametrize("labels", [[0, 0, 0], [-1, -1, -1], [0, -1, 1]])
def test_few_labels_or_one_class_are_no_fault(labels: list[int]) -> None:
    table = find_label_issues(_predict(labels, [0.2, 0.4, 0.9]), "a", _CLASSES)
    assert len(table) == 0


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
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
