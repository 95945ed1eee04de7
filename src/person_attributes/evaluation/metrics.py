"""Metrics take arrays and return numbers; nothing here knows files, models or MLflow."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

_SMALLEST_PROBABILITY = 1e-7
"""Keras' own clip, so that its losses and ours agree."""

OneHot = Mapping[str, npt.NDArray[np.float32]]
"""`{head: (n, classes)}` of zeros and ones, or of probabilities; true rows of zeros alone have no
label of that head, and count nowhere."""


@dataclass(frozen=True)
class Scores:
    """How good predictions are.

    Attributes:
        heads: One row a head: `rows` with a label, `accuracy` with its interval `low` and `high`,
            `majority` (accuracy of always saying the commonest training class), `loss`
            (cross-entropy), `shares_loss` (cross-entropy of always saying the training class
            shares), `macro_f1`.
        mean_accuracy: The mean of the heads' accuracies, with its interval.
        loss: The plain sum of the heads' cross-entropies.
    """

    heads: pd.DataFrame
    mean_accuracy: float
    mean_accuracy_low: float
    mean_accuracy_high: float
    loss: float

    def to_metrics(self) -> dict[str, float]:
        """Names every figure as MLflow and `dvc metrics` show it."""
        metrics = {
            "loss": self.loss,
            "mean_accuracy": self.mean_accuracy,
            "mean_accuracy_low": self.mean_accuracy_low,
            "mean_accuracy_high": self.mean_accuracy_high,
            "mean_majority": float(self.heads["majority"].mean()),
            "shares_loss": float(self.heads["shares_loss"].sum()),
            "rows": int(self.heads["rows"].max()),
        }
        for head, row in self.heads.iterrows():
            for name in ("accuracy", "loss", "macro_f1", "majority"):
                metrics[f"{head}_{name}"] = float(row[name])
        return metrics


def score(
    y_true: OneHot,
    y_prob: OneHot,
    y_train: OneHot,
    *,
    confidence: float,
    bootstrap_samples: int,
    seed: int,
) -> Scores:
    """Scores predictions of all heads on the same rows.

    Args:
        y_true: True classes of the scored rows, one-hot.
        y_prob: Predicted probabilities of the scored rows.
        y_train: True classes of the training rows, for the floors.
        confidence: Of the intervals, such as .95.
        bootstrap_samples: How often rows are drawn anew for the intervals.
        seed: Of the bootstrap.

    Returns:
        The scores of each head and over heads.
    """
    hits = np.stack([_hits(truth, y_prob[head]) for head, truth in y_true.items()])
    means = _bootstrap_means(hits, bootstrap_samples, seed)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of draws without any label
        low, high = np.nanquantile(means, tails, axis=0)
        mean_low, mean_high = np.nanquantile(np.nanmean(means, axis=1), tails)
    rows = {}
    for number, (head, truth) in enumerate(y_true.items()):
        majority = y_train[head].sum(axis=0).argmax()
        rows[head] = {
            "rows": int(truth.any(axis=1).sum()),
            "accuracy": np.nanmean(hits[number]),
            "low": low[number],
            "high": high[number],
            "majority": _labelled(truth)[:, majority].mean(),
            "loss": cross_entropy(truth, y_prob[head]),
            "shares_loss": shares_loss(truth, y_train[head]),
            "macro_f1": macro_f1(truth, y_prob[head]),
        }
    heads = pd.DataFrame.from_dict(rows, orient="index")
    heads.index.name = "head"
    return Scores(
        heads=heads,
        mean_accuracy=float(heads["accuracy"].mean()),
        mean_accuracy_low=float(mean_low),
        mean_accuracy_high=float(mean_high),
        loss=float(heads["loss"].sum()),
    )


def cross_entropy(y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32]) -> float:
    """Mean categorical cross-entropy of one head over its labels, in nats."""
    probabilities = np.clip(y_prob.astype(np.float64), _SMALLEST_PROBABILITY, 1)
    return float(-(y_true * np.log(probabilities)).sum() / y_true.sum(dtype=np.float64))


def shares_loss(y_true: npt.NDArray[np.float32], y_train: npt.NDArray[np.float32]) -> float:
    """Cross-entropy of always saying the class shares of the training rows."""
    shares = _labelled(y_train).mean(axis=0)
    return cross_entropy(y_true, np.broadcast_to(shares, y_true.shape))


def macro_f1(y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32]) -> float:
    """Mean over classes of F1; a class that is neither there nor predicted is left out."""
    from sklearn.metrics import f1_score

    truth, prediction = _class_numbers(y_true, y_prob)
    return float(f1_score(truth, prediction, average="macro"))


def _labelled(y_true: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Leaves out rows without a label."""
    labelled: npt.NDArray[np.float32] = y_true[y_true.any(axis=1)]
    return labelled


def _class_numbers(
    y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Gives true and predicted class numbers of the rows that have a label."""
    is_labelled = y_true.any(axis=1)
    return y_true[is_labelled].argmax(axis=1), y_prob[is_labelled].argmax(axis=1)


def _hits(
    y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Says of each row whether it is right: 1, 0, or not a number where it has no label."""
    hits = y_true.argmax(axis=1) == y_prob.argmax(axis=1)
    return np.where(y_true.any(axis=1), hits.astype(np.float64), np.nan)


def _bootstrap_means(
    hits: npt.NDArray[np.float64], samples: int, seed: int
) -> npt.NDArray[np.float64]:
    """Means of each head over rows drawn with replacement: (samples, heads).

    Rows are drawn for all heads together, since their mistakes on one image go together. A draw
    without a label of some head says nothing of that head: not a number.
    """
    random = np.random.default_rng(seed)
    rows = hits.shape[1]
    is_labelled, right = ~np.isnan(hits), np.nan_to_num(hits)
    means = np.empty((samples, len(hits)))
    for sample in range(samples):
        drawn = random.integers(0, rows, rows)
        labels = is_labelled[:, drawn].sum(axis=1).astype(np.float64)
        labels[labels == 0] = np.nan
        means[sample] = right[:, drawn].sum(axis=1) / labels
    return means


def confusion(
    y_true: npt.NDArray[np.float32], y_prob: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """Counts (true class, predicted class) pairs: (classes, classes)."""
    from sklearn.metrics import confusion_matrix

    truth, prediction = _class_numbers(y_true, y_prob)
    matrix: npt.NDArray[np.int64] = confusion_matrix(
        truth, prediction, labels=range(y_true.shape[1])
    )
    return matrix
