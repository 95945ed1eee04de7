"""Predictions of a network and the labels of the same rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from person_attributes.evaluation.metrics import OneHot

if TYPE_CHECKING:  # reading predictions does not need Keras
    import keras

    from person_attributes.data.batches import ImageBatches

_ROWS, _TRUE, _PROBABILITY = "rows", "true.", "probability."


@dataclass(frozen=True)
class Predictions:
    """Labels and predicted probabilities of rows, in the same order.

    Attributes:
        rows: Row numbers, (n,).
        y_true: One-hot labels, `{head: (n, classes)}`; a row of zeros is unlabelled.
        y_prob: Probabilities, `{head: (n, classes)}`; rows sum to 1.
    """

    rows: npt.NDArray[np.int64]
    y_true: OneHot
    y_prob: OneHot

    def write(self, path: Path) -> None:
        """Writes an `.npz` file; equal predictions give equal bytes."""
        arrays: dict[str, npt.NDArray[Any]] = {_ROWS: self.rows}
        arrays |= {f"{_TRUE}{head}": truth.astype(np.uint8) for head, truth in self.y_true.items()}
        arrays |= {f"{_PROBABILITY}{head}": answers for head, answers in self.y_prob.items()}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Reads a file written by `write`."""
        with path.open("rb") as file, np.load(file) as arrays:
            y_true = _named(arrays, _TRUE)
            return cls(
                arrays[_ROWS],
                {head: values.astype(np.float32) for head, values in y_true.items()},
                _named(arrays, _PROBABILITY),
            )


def predict_batches(classifier: "keras.Model", batches: "ImageBatches") -> OneHot:
    """Predicts all rows of the batches in order.

    The last batch is filled up with its own rows: with batches of one size, TensorFlow traces the
    network once.
    """
    size, answers = min(batches.batch_size, batches.rows), []
    for number in range(len(batches)):
        images = batches[number][0]
        filled = images[np.arange(size) % len(images)]
        answer = classifier.predict_on_batch(filled)
        answers.append({head: y_prob[: len(images)] for head, y_prob in answer.items()})
    return {head: np.concatenate([answer[head] for answer in answers]) for head in answers[0]}


def _named(
    arrays: Mapping[str, npt.NDArray[np.float32]], prefix: str
) -> dict[str, npt.NDArray[np.float32]]:
    return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
