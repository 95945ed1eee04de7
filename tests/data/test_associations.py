import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from person_attributes.data.associations import (
    compare_labels,
    count_pairs,
    find_unusual_pairs,
)
from person_attributes.labels import LabelMap

LABEL_MAP = LabelMap(
    classes={"pose": ("Back", "Front"), "emotion": ("Happy", "Neutral")},
    columns={"pose": "pose", "emotion": "emotion"},
)


@pytest.fixture
def targets() -> dict[str, npt.NDArray[np.float32]]:
    """100 backs of which 2 are happy, 100 fronts of which 50 are, 10 rows without an emotion."""
    pose = [0] * 100 + [1] * 100 + [1] * 10
    happy = [0] * 2 + [1] * 98 + [0, 1] * 50
    emotion = np.zeros((210, 2), np.float32)
    emotion[np.arange(200), happy] = 1
    return {"pose": np.eye(2, dtype=np.float32)[pose], "emotion": emotion}


def test_rows_without_one_of_the_labels_are_not_counted(
    targets: dict[str, npt.NDArray[np.float32]],
) -> None:
    counts, expected = count_pairs(targets)
    assert counts[:2, 2:].tolist() == [[2, 98], [50, 50]]
    assert expected[:2, 2:].tolist() == [[26, 74], [26, 74]]
    np.testing.assert_array_equal(counts[2:, :2], counts[:2, 2:].T)
    assert np.isnan(counts[:2, :2]).all()


def test_a_rare_pair_of_frequent_classes_is_unusual(
    targets: dict[str, npt.NDArray[np.float32]],
) -> None:
    (pair,) = find_unusual_pairs(targets, LABEL_MAP, 5)
    assert (pair.first, pair.second) == (("pose", "Back"), ("emotion", "Happy"))
    assert (pair.count, pair.expected) == (2, 26)
    assert pair.positions.tolist() == [0, 1]
    assert find_unusual_pairs(targets, LABEL_MAP, 0) == []


def test_independent_heads_have_no_unusual_pairs() -> None:
    both = np.array([(a, b) for a in range(2) for b in range(2)] * 25)
    targets = {
        "pose": np.eye(2, dtype=np.float32)[both[:, 0]],
        "emotion": np.eye(2, dtype=np.float32)[both[:, 1]],
    }
    assert find_unusual_pairs(targets, LABEL_MAP, 5) == []


def test_pairs_without_one_of_the_labels_are_not_compared() -> None:
    records = pd.DataFrame(
        {"pose": ["Back", "Back", "Front", ""], "emotion": ["Happy", "Neutral", "Happy", ""]},
        index=[3, 5, 8, 9],
    )
    pairs = pd.DataFrame({"first": [3, 3, 8], "second": [5, 8, 9]})
    table = compare_labels(records, pairs, ["pose", "emotion"])
    assert table["pairs"].tolist() == [2, 2]
    assert table["agree"].tolist() == [1, 1]
    assert table["share"].tolist() == [0.5, 0.5]
