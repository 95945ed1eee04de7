import numpy as np
import numpy.typing as npt
import pytest
from one_hot import one_hot
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    recall_score,
)

from person_attributes.evaluation import metrics


@pytest.fixture
def drawn(random: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    y_true = one_hot(list(random.integers(0, 3, 200)), 3)
    return y_true, random.dirichlet([1, 1, 1], 200).astype(np.float32)


def test_metrics_equal_those_of_scikit_learn(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    y_true, y_prob = drawn
    truth, answer = y_true.argmax(axis=1), y_prob.argmax(axis=1)
    np.testing.assert_array_equal(
        metrics.count_confusions(y_true, y_prob), confusion_matrix(truth, answer)
    )
    counts = metrics.count_classes(y_true, y_prob)
    assert metrics.accuracy(y_true, y_prob) == pytest.approx(accuracy_score(truth, answer))
    expected = balanced_accuracy_score(truth, answer)
    assert metrics.balanced_accuracy(counts) == pytest.approx(expected)
    assert metrics.macro_f1(counts) == pytest.approx(f1_score(truth, answer, average="macro"))
    assert metrics.recalls(counts) == pytest.approx(recall_score(truth, answer, average=None))
    exact = y_prob.astype(float)
    expected = log_loss(truth, exact / exact.sum(axis=1, keepdims=True))
    assert metrics.cross_entropy(y_true, y_prob) == pytest.approx(expected, rel=1e-4)


def test_weighting_a_row_equals_repeating_it(
    drawn: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], random: np.random.Generator
) -> None:
    y_true, y_prob = drawn
    weights = random.multinomial(200, np.full(200, 1 / 200), 5).astype(float)
    counts = metrics.count_classes(y_true, y_prob, weights)
    for number, draw in enumerate(weights):
        rows = np.repeat(np.arange(200), draw.astype(int))
        again = metrics.count_classes(y_true[rows], y_prob[rows])
        np.testing.assert_array_equal(counts.right[number], again.right)
        np.testing.assert_array_equal(counts.true[number], again.true)
        np.testing.assert_array_equal(counts.predicted[number], again.predicted)
    rows = np.repeat(np.arange(200), weights[0].astype(int))
    for weighted, repeated in (
        (
            metrics.accuracy(y_true, y_prob, weights)[0],
            metrics.accuracy(y_true[rows], y_prob[rows]),
        ),
        (
            metrics.cross_entropy(y_true, y_prob, weights)[0],
            metrics.cross_entropy(y_true[rows], y_prob[rows]),
        ),
        (
            metrics.instance_scores({"a": y_true}, {"a": y_prob}, weights)["instance_f1"][0],
            metrics.instance_scores({"a": y_true[rows]}, {"a": y_prob[rows]})["instance_f1"],
        ),
    ):
        assert weighted == pytest.approx(float(repeated))


def test_mean_attribute_accuracy_matches_a_manual_calculation() -> None:
    """Head a has one wrong row of four; head b has none."""
    y_true = {"a": one_hot([0, 0, 1, 1], 2), "b": one_hot([0, 1, 1, 1], 2)}
    y_prob = {"a": one_hot([0, 0, 0, 1], 2), "b": one_hot([0, 1, 1, 1], 2)}
    counts = {head: metrics.count_classes(y_true[head], y_prob[head]) for head in y_true}
    # Each of a's columns: (2/2 + 1/2) / 2 and (1/2 + 2/2) / 2; each of b's: 1.
    assert metrics.mean_attribute_accuracy(counts) == pytest.approx((0.75 + 0.75 + 1 + 1) / 4)
    rows = metrics.instance_scores(y_true, y_prob)
    assert rows["instance_precision"] == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert rows["instance_recall"] == rows["instance_f1"] == rows["instance_precision"]


def test_baselines_use_the_training_rows() -> None:
    y_true, y_train = one_hot([0, 0, 1, 1], 2), one_hot([1, 1, 1, 0], 2)
    assert metrics.majority_accuracy(y_true, y_train) == 0.5
    expected = -np.log([0.25, 0.25, 0.75, 0.75]).mean()
    assert metrics.prior_loss(y_true, y_train) == pytest.approx(expected, rel=1e-5)


def test_a_wrong_prediction_with_probability_one_has_a_finite_loss() -> None:
    loss = metrics.cross_entropy(one_hot([0], 2), one_hot([1], 2))
    assert loss == pytest.approx(-np.log(1e-7))


def test_unlabelled_rows_are_ignored(random: np.random.Generator) -> None:
    whole = one_hot(list(random.integers(0, 3, 60)), 3)
    y_prob = random.dirichlet([1, 1, 1], 60).astype(np.float32)
    masked = whole.copy()
    masked[20:] = 0
    subset, partial = (whole[:20], y_prob[:20]), (masked, y_prob)
    expected = metrics.count_confusions(*subset)
    np.testing.assert_array_equal(metrics.count_confusions(*partial), expected)
    counts = metrics.count_classes(*partial)
    np.testing.assert_array_equal(counts.true, expected.sum(axis=1))
    np.testing.assert_array_equal(counts.predicted, expected.sum(axis=0))
    assert metrics.accuracy(*partial) == metrics.accuracy(*subset)
    assert metrics.cross_entropy(*partial) == pytest.approx(float(metrics.cross_entropy(*subset)))
    both = metrics.instance_scores({"a": masked, "b": whole}, {"a": y_prob, "b": y_prob})
    accuracy = (whole.argmax(axis=1) == y_prob.argmax(axis=1)).mean()
    assert both["instance_recall"] == pytest.approx(accuracy)
