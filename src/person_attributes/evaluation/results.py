"""Scores a trained network on the validation, test and training rows."""

from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from person_attributes.config import Params
from person_attributes.data.batches import ImageBatches
from person_attributes.data.dataset import Dataset
from person_attributes.data.images import Images
from person_attributes.data.split import TEST, TRAIN, VALIDATION
from person_attributes.evaluation import calibration, metrics, scores
from person_attributes.evaluation.metrics import OneHot
from person_attributes.evaluation.predictions import Predictions, predict_batches
from person_attributes.evaluation.scores import Scores
from person_attributes.labels import LabelMap
from person_attributes.runtime.memory import translate_out_of_memory


@dataclass(frozen=True)
class Evaluation:
    """Predictions and metrics of one network.

    Attributes:
        label_map: Heads and classes.
        images: The pack.
        positions: Positions of the validation rows in the pack.
        validation: Labels and uncalibrated probabilities of the validation rows.
        calibrated: Probabilities of the validation rows, each scaled with temperatures fitted on
            other validation rows.
        temperatures: Temperatures fitted on all validation rows, used for test rows and serving.
        scores: Metrics of the validation rows.
        test: Labels and uncalibrated probabilities of the test rows; empty without test rows.
        test_scores: Metrics of the test rows; None without test rows.
        train_metrics: `train_loss`, `train_mean_accuracy` and `train_rows` of a random sample of
            the training rows, without augmentation and dropout.
    """

    label_map: LabelMap
    images: Images
    positions: npt.NDArray[np.intp]
    validation: Predictions
    calibrated: OneHot
    temperatures: dict[str, float]
    scores: Scores
    test: Predictions
    test_scores: Scores | None
    train_metrics: dict[str, float]

    def to_metrics(self) -> dict[str, float]:
        """Returns all metrics by name; metrics of test rows start with `test_`."""
        named = self.scores.to_metrics() | self.train_metrics
        if self.test_scores:
            test = self.test_scores.to_metrics()
            named |= {f"test_{name}": value for name, value in test.items()}
        return named


def evaluate_network(dataset: Dataset, params: Params, network: keras.Model) -> Evaluation:
    """Scores the validation rows, the test rows and a sample of the training rows.

    Args:
        dataset: The dataset at the input size of the network.
        params: All parameters.
        network: Outputs probabilities for each head.

    Raises:
        UntrainableError: If memory runs out. Lower `evaluation.batch_size`.
    """
    section, seed = params.evaluation, params.seed
    y_train = dataset.part(TRAIN).targets
    validation = _predict(dataset, dataset.split.validation, network, section.batch_size)
    calibrated = calibration.cross_fit(
        validation.y_true, validation.y_prob, section.calibration_folds, seed
    )
    temperatures = calibration.fit_temperatures(validation.y_true, validation.y_prob)
    test = _predict(dataset, dataset.split.parts.get(TEST, ()), network, section.batch_size)
    test_scores = None
    if len(test.rows):
        scaled = calibration.scale_heads(test.y_prob, temperatures)
        test_scores = scores.score(test, scaled, y_train, section, seed)
    return Evaluation(
        label_map=dataset.label_map,
        images=dataset.images,
        positions=dataset.part(VALIDATION).positions,
        validation=validation,
        calibrated=calibrated,
        temperatures=temperatures,
        scores=scores.score(validation, calibrated, y_train, section, seed),
        test=test,
        test_scores=test_scores,
        train_metrics=_score_training_rows(dataset, params, network),
    )


def _predict(
    dataset: Dataset, rows: tuple[int, ...], network: keras.Model, batch_size: int
) -> Predictions:
    part = dataset.select(rows)
    if not rows:
        return Predictions(part.positions, part.targets, part.targets)
    batches = ImageBatches(
        dataset.images, dataset.targets, part.positions, batch_size, augmenter=None, seed=None
    )
    with translate_out_of_memory(
        "evaluate", batch_size, dataset.image_size, "evaluation.batch_size"
    ):
        return Predictions(np.array(rows), part.targets, predict_batches(network, batches))


def _score_training_rows(
    dataset: Dataset, params: Params, network: keras.Model
) -> dict[str, float]:
    """Scores `evaluation.training_rows` random training rows, for the overfitting check."""
    rows, section = dataset.split.train, params.evaluation
    random = np.random.default_rng(params.seed)
    count = min(section.training_rows, len(rows))
    drawn = random.choice(rows, count, replace=False)
    sample = _predict(dataset, tuple(np.sort(drawn).tolist()), network, section.batch_size)
    summed = metrics.sum_up(sample.y_true, sample.y_prob)
    return {f"train_{name}": value for name, value in summed.items()}
