"""All that is computed of a network's predictions, before anything is shown of it."""

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


@dataclass(frozen=True)
class Evaluation:
    """All that is computed of the rows.

    Attributes:
        label_map: Heads and classes.
        images: The pack.
        positions: Of the validation rows in it.
        validation: Their labels and probabilities, as the network gives them.
        calibrated: Their probabilities at temperatures that were fitted on other rows.
        temperatures: Fitted on all validation rows; test rows, and whoever is served, get these.
        scores: Of the validation rows.
        test: Of the test rows, as the network gives them; empty where there are none.
        test_scores: Of those.
        train_metrics: Of training rows, scored as the others are.
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
        """Names all figures; those of the test rows have `test_` in front."""
        named = self.scores.to_metrics() | self.train_metrics
        if self.test_scores:
            test = self.test_scores.to_metrics()
            named |= {f"test_{name}": value for name, value in test.items()}
        return named


def evaluate_network(dataset: Dataset, params: Params, network: keras.Model) -> Evaluation:
    """Scores the validation and the test rows, and some of the training rows.

    Args:
        dataset: Of the image size that the network takes.
        params: All parameters.
        network: Answers with probabilities.
    """
    section = params.evaluation
    split, y_train = dataset.split, dataset.part(TRAIN).targets

    def predict(rows: tuple[int, ...]) -> Predictions:
        part = dataset.select(rows)
        if not rows:
            return Predictions(part.positions, part.targets, part.targets)
        batches = ImageBatches(
            dataset.images,
            dataset.targets,
            part.positions,
            section.batch_size,
            augmenter=None,
            seed=None,
        )
        return Predictions(np.array(rows), part.targets, predict_batches(network, batches))

    found = predict(split.validation)
    calibrated = calibration.cross_fit(
        found.y_true, found.y_prob, section.calibration_folds, params.seed
    )
    temperatures = calibration.fit_temperatures(found.y_true, found.y_prob)
    test, test_scores = predict(split.parts.get(TEST, ())), None
    if len(test.rows):
        scaled = calibration.scale_heads(test.y_prob, temperatures)
        test_scores = scores.score(test.y_true, test.y_prob, scaled, y_train, section, params.seed)
    random = np.random.default_rng(params.seed)
    count = min(section.training_rows, len(split.train))
    train = predict(tuple(np.sort(random.choice(split.train, count, replace=False)).tolist()))
    return Evaluation(
        label_map=dataset.label_map,
        images=dataset.images,
        positions=dataset.part(VALIDATION).positions,
        validation=found,
        calibrated=calibrated,
        temperatures=temperatures,
        scores=scores.score(found.y_true, found.y_prob, calibrated, y_train, section, params.seed),
        test=test,
        test_scores=test_scores,
        train_metrics={
            f"train_{name}": value
            for name, value in metrics.sum_up(train.y_true, train.y_prob).items()
        },
    )
