"""The report and the table for a terminal show what is served: calibrated metrics first."""

import numpy as np
import pandas as pd
import pytest

from person_attributes.config import Params
from person_attributes.evaluation.calibration import cross_fit, fit_temperatures
from person_attributes.evaluation.predictions import Predictions
from person_attributes.evaluation.scores import Scores, score
from person_attributes.evaluation.slices import score_slices
from person_attributes.reporting.report import Report, format_table, render_report

CLASSES = {"mood": ["good", "bad"], "hat": ["yes", "no"]}


@pytest.fixture
def predictions(random: np.random.Generator) -> Predictions:
    """`mood` is overconfident, and always wrong without a hat; `hat` is always right."""
    hat = np.eye(2, dtype=np.float32)[np.arange(120) % 2]
    mood = np.eye(2, dtype=np.float32)[random.integers(0, 2, 120)]
    answers = np.where(hat[:, :1] > 0, mood, 1 - mood)
    confident = (0.98 * answers + 0.01).astype(np.float32)
    return Predictions(np.arange(120), {"mood": mood, "hat": hat}, {"mood": confident, "hat": hat})


@pytest.fixture
def report(predictions: Predictions, params: Params) -> Report:
    section, y_true = params.evaluation, predictions.y_true
    calibrated = cross_fit(y_true, predictions.y_prob, section.calibration_folds, seed=0)
    scores = score(predictions, calibrated, y_true, section, seed=0)
    return Report(
        scores=scores,
        test_scores=scores,
        train_metrics={"train_rows": 9, "train_mean_accuracy": 0.9, "train_loss": 1.0},
        temperatures=fit_temperatures(y_true, predictions.y_prob),
        slices=score_slices(y_true, calibrated, CLASSES, section, seed=0),
        figures={},
        most_confident_errors={head: [] for head in CLASSES},
        least_confident_correct={head: [] for head in CLASSES},
        shown_label_issues={},
        label_issues=pd.DataFrame({"head": []}),
        confidence=section.confidence,
        colour=params.report.colour,
    )


def _show(scores: Scores) -> list[str]:
    metrics = scores.to_metrics()
    metrics |= {f"test_{name}": value for name, value in metrics.items()}
    return format_table(scores.heads, metrics).splitlines()


def test_the_table_shows_calibrated_metrics_before_uncalibrated_ones(report: Report) -> None:
    scores = report.scores
    groups, names, mood, hat, totals, ideal, test = _show(scores)
    assert groups.split() == ["calibrated", "uncalibrated"]
    assert names.split()[-4:] == ["loss", "ece", "loss", "ece"]
    row = scores.heads.loc["mood"]
    shown = [float(number) for number in mood.split()[-4:]]
    expected = [row[name] for name in ("calibrated_loss", "calibrated_ece", "loss", "ece")]
    assert shown == pytest.approx(expected, abs=5e-4)
    assert shown[0] < shown[2]
    assert hat.split()[1:5] == ["1.000", "0.969", "to", "1.000"]
    assert float(totals.split()[-4]) == pytest.approx(scores["calibrated_loss"], abs=5e-4)
    mean = scores.heads["ece_if_calibrated"].mean()
    assert ideal == f"A perfectly calibrated network has a mean ece of {mean:.3f} on 120 rows."
    assert f"calibrated loss {scores['calibrated_loss']:.3f}" in test


def test_the_report_lists_slices_that_differ_and_names_the_correction(report: Report) -> None:
    page = render_report(report)
    assert "corrected for the 4 slices" in page
    assert "at most 5 % of the slices in this table" in page
    differing = page.partition("corrected for the 4")[2].partition("<details>")[0]
    assert differing.count("<td>mood") == 2
    assert ">nan" not in page


def test_small_p_values_are_not_rounded_to_zero(report: Report) -> None:
    page = render_report(report)
    assert "<td>&lt; 0.001<td>" in page
    assert "<td>0.000<td>" not in page.partition('id="slices"')[2].partition("<details>")[0]
