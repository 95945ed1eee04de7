"""Collects the content of the evaluation report: plots, examples with heat maps, label issues."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import pandas as pd

from person_attributes.config import Params
from person_attributes.evaluation import metrics
from person_attributes.evaluation.predictions import Predictions
from person_attributes.evaluation.results import Evaluation
from person_attributes.evaluation.scores import score_classes
from person_attributes.evaluation.slices import score_slices
from person_attributes.reporting import examples, plots
from person_attributes.reporting.examples import Example
from person_attributes.reporting.gradcam import GradCam
from person_attributes.reporting.plots import overlay_heatmap
from person_attributes.reporting.report import LabelIssue, Report, ShownExample


def fill_report(
    evaluation: Evaluation, members: Sequence[keras.Model], curves: pd.DataFrame, params: Params
) -> Report:
    """Collects everything that the report shows.

    Args:
        evaluation: The evaluation.
        members: The networks whose probabilities are averaged; one if there is no ensemble.
        curves: The metrics of each epoch.
        params: All parameters.
    """
    gradcam = GradCam(*members)
    section, found = params.evaluation, evaluation.validation
    classes = evaluation.label_map.classes
    calibrated = Predictions(found.rows, found.y_true, evaluation.calibrated)
    errors, correct = (
        {head: find(calibrated, head, classes[head], count) for head in classes}
        for find, count in (
            (examples.find_most_confident_errors, section.most_confident_errors_per_head),
            (examples.find_least_confident_correct, section.least_confident_correct_per_head),
        )
    )
    label_issues = {
        head: examples.find_label_issues(calibrated, head, classes[head]) for head in classes
    }
    return Report(
        scores=evaluation.scores,
        test_scores=evaluation.test_scores,
        train_metrics=evaluation.train_metrics,
        temperatures=evaluation.temperatures,
        slices=score_slices(found.y_true, evaluation.calibrated, classes, section, params.seed),
        figures=_draw_figures(evaluation, curves, params),
        most_confident_errors=_show_examples(evaluation, gradcam, errors),
        least_confident_correct=_show_examples(evaluation, gradcam, correct),
        shown_label_issues={
            head: _show_label_issues(evaluation, table[: section.label_issues_per_head])
            for head, table in label_issues.items()
        },
        label_issues=pd.concat(label_issues.values()),
        confidence=section.confidence,
        colour=params.report.colour,
    )


def _draw_figures(evaluation: Evaluation, curves: pd.DataFrame, params: Params) -> dict[str, str]:
    """Draws the plots of the report: SVG by title, in display order."""
    section, colour, found = params.evaluation, params.report.colour, evaluation.validation
    classes = evaluation.label_map.classes
    matrices = {
        head: metrics.count_confusions(found.y_true[head], found.y_prob[head]) for head in classes
    }
    by_class = score_classes(found.y_true, found.y_prob, classes, section.confidence)
    return {
        "Accuracy per head": plots.draw_head_accuracies(evaluation.scores.heads, colour),
        "Learning curves": plots.draw_learning_curves(curves, colour),
        "Recall and precision per class": plots.draw_class_recalls(by_class, colour),
        "Confusion matrices": plots.draw_confusions(matrices, classes, colour),
        "Calibration": plots.draw_reliability(
            found.y_true, found.y_prob, evaluation.calibrated, section.calibration_bins, colour
        ),
    }


def _show_examples(
    evaluation: Evaluation, gradcam: GradCam, found: Mapping[str, list[Example]]
) -> dict[str, list[ShownExample]]:
    """Adds images and heat maps to examples."""
    shown: dict[str, list[ShownExample]] = {}
    for head, chosen in found.items():
        shown[head] = []
        if chosen:
            positions = evaluation.positions[[example.position for example in chosen]]
            images = np.asarray(evaluation.images[positions])
            answers = np.array([example.answer_number for example in chosen])
            heats = gradcam.explain(images, head, answers)
            shown[head] = [
                ShownExample(example, image, overlay_heatmap(image, heat))
                for example, image, heat in zip(chosen, images, heats, strict=True)
            ]
    return shown


def _show_label_issues(evaluation: Evaluation, table: pd.DataFrame) -> list[LabelIssue]:
    position_of_row = dict(
        zip(evaluation.validation.rows.tolist(), evaluation.positions, strict=True)
    )
    return [
        LabelIssue(issue, np.asarray(evaluation.images[position_of_row[issue["row"]]]))
        for issue in table.to_dict("records")
    ]
