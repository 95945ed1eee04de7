import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from person_attributes.evaluation.metrics import Scores, confusion, cross_entropy, macro_f1, score


def _one_hot(classes: list[int], count: int) -> npt.NDArray[np.float32]:
    return np.eye(count, dtype=np.float32)[classes]


def _score(
    y_true: dict[str, npt.NDArray[np.float32]],
    y_prob: dict[str, npt.NDArray[np.float32]],
    y_train: dict[str, npt.NDArray[np.float32]] | None = None,
) -> Scores:
    return score(y_true, y_prob, y_train or y_true, confidence=0.95, bootstrap_samples=400, seed=0)


def _log_loss(truth: npt.NDArray[np.int64], y_prob: npt.NDArray[np.float32]) -> float:
    exact = y_prob.astype(float)
    return float(log_loss(truth, exact / exact.sum(axis=1, keepdims=True)))


@pytest.fixture
def drawn(
    random: np.random.Generator,
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float32]]]:
    y_true = {"a": _one_hot(list(random.integers(0, 3, 200)), 3)}
    y_prob = {"a": random.dirichlet([1, 1, 1], 200).astype(np.float32)}
    return y_true, y_prob


def test_figures_are_scikit_learns(
    drawn: tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float32]]],
) -> None:
    y_true, y_prob = drawn
    truth, prediction = y_true["a"].argmax(axis=1), y_prob["a"].argmax(axis=1)
    head = _score(y_true, y_prob).heads.loc["a"]
    assert head["accuracy"] == pytest.approx(accuracy_score(truth, prediction))
    assert head["macro_f1"] == pytest.approx(f1_score(truth, prediction, average="macro"))
    assert head["loss"] == pytest.approx(_log_loss(truth, y_prob["a"]), rel=1e-4)
    assert macro_f1(y_true["a"], y_prob["a"]) == head["macro_f1"]


def test_a_case_counted_by_hand() -> None:
    y_true = {"a": _one_hot([0, 0, 1, 1], 2), "b": _one_hot([0, 1, 2, 2], 3)}
    y_prob = {
        "a": np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8]], np.float32),
        "b": np.full((4, 3), 1 / 3, np.float32),
    }
    y_train = {"a": _one_hot([1, 1, 1, 0], 2), "b": _one_hot([2, 2, 0, 1], 3)}
    scores = _score(y_true, y_prob, y_train)
    a, b = scores.heads.loc["a"], scores.heads.loc["b"]
    assert (a["accuracy"], a["majority"]) == (0.5, 0.5)
    assert a["loss"] == pytest.approx(-np.log([0.9, 0.4, 0.5, 0.8]).mean(), rel=1e-5)
    assert a["shares_loss"] == pytest.approx(-np.log([0.25, 0.25, 0.75, 0.75]).mean(), rel=1e-5)
    assert (b["accuracy"], b["majority"]) == (0.25, 0.5)
    assert b["loss"] == pytest.approx(np.log(3), rel=1e-5)
    assert scores.mean_accuracy == 0.375
    assert scores.loss == pytest.approx(a["loss"] + b["loss"])


def test_intervals_hold_the_figure_and_narrow_with_rows(
    random: np.random.Generator,
) -> None:
    widths = []
    for rows in (50, 5000):
        y_true = {"a": _one_hot(list(random.integers(0, 2, rows)), 2)}
        noise = random.dirichlet([1, 1], rows).astype(np.float32)
        head = _score(y_true, {"a": noise}).heads.loc["a"]
        assert head["low"] <= head["accuracy"] <= head["high"]
        widths.append(head["high"] - head["low"])
    assert widths[0] > 5 * widths[1]
    # Width of a binomial interval: 2 x 1.96 x sqrt(.25 / 5000).
    assert widths[1] == pytest.approx(0.0277, abs=0.004)


def test_a_certain_mistake_has_a_finite_loss() -> None:
    assert cross_entropy(_one_hot([0], 2), _one_hot([1], 2)) == pytest.approx(-np.log(1e-7))


def test_confusions_count_true_rows_and_predicted_columns() -> None:
    matrix = confusion(_one_hot([0, 0, 2], 3), _one_hot([1, 0, 2], 3))
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 0, 0], [0, 0, 1]])


def test_every_figure_has_its_name() -> None:
    y_true = {"a": _one_hot([0, 1], 2)}
    metrics = _score(y_true, y_true).to_metrics()
    assert metrics["a_accuracy"] == metrics["mean_accuracy"] == 1
    assert metrics["rows"] == 2
    assert {"loss", "a_loss", "a_macro_f1", "a_majority", "mean_accuracy_low"} <= set(metrics)


def test_rows_without_a_label_count_nowhere(random: np.random.Generator) -> None:
    whole = _one_hot(list(random.integers(0, 3, 60)), 3)
    y_prob = {head: random.dirichlet([1, 1, 1], 60).astype(np.float32) for head in ("a", "b")}
    masked = whole.copy()
    masked[20:] = 0
    scores = _score({"a": masked, "b": whole}, y_prob, {"a": masked, "b": whole})
    alone = _score({"a": whole[:20]}, {"a": y_prob["a"][:20]})
    for name in ("rows", "accuracy", "majority", "loss", "shares_loss", "macro_f1"):
        assert scores.heads.loc["a", name] == pytest.approx(alone.heads.loc["a", name])
    assert scores.heads.loc["b", "rows"] == 60
    assert scores.mean_accuracy == pytest.approx(scores.heads["accuracy"].mean())
    head = scores.heads.loc["a"]
    assert head["low"] < head["high"]
    assert confusion(masked, y_prob["a"]).sum() == 20


def test_an_interval_needs_one_label_alone() -> None:
    """Most bootstrap draws miss the row that has it."""
    y_true = np.zeros((30, 2), np.float32)
    y_true[4, 1] = 1
    other = _one_hot([0, 1] * 15, 2)
    scores = _score({"a": y_true, "b": other}, {"a": other, "b": other}, {"a": other, "b": other})
    assert np.isfinite(scores.heads[["accuracy", "low", "high", "loss"]].to_numpy()).all()
