"""The evaluation report, a self-contained HTML page, and its table for a terminal."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.drawing.page import render_page
from person_attributes.evaluation.scores import Scores
from person_attributes.evaluation.slices import find_unlike_slices
from person_attributes.reporting.examples import Example


@dataclass(frozen=True)
class ShownExample:
    """A prediction with its image and its heat map."""

    example: Example
    image: npt.NDArray[np.uint8]
    heat: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelIssue:
    """A row of `find_label_issues` with its image."""

    issue: Mapping[Hashable, Any]
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Report:
    """Content of the evaluation report.

    Attributes:
        scores: Metrics of the validation rows.
        test_scores: Metrics of the test rows; None without test rows.
        train_metrics: `train_loss`, `train_mean_accuracy` and `train_rows`.
        temperatures: Temperature of each head.
        slices: Table of `score_slices`.
        figures: Plots as SVG by title, in display order.
        most_confident_errors: Examples of each head.
        least_confident_correct: Examples of each head.
        shown_label_issues: Label issues of each head to show with their images.
        label_issues: Table of `find_label_issues` of all heads.
        confidence: Confidence level of the intervals.
        colour: Accent colour, `#rrggbb`.
    """

    scores: Scores
    test_scores: Scores | None
    train_metrics: Mapping[str, float]
    temperatures: Mapping[str, float]
    slices: pd.DataFrame
    figures: Mapping[str, str]
    most_confident_errors: Mapping[str, Sequence[ShownExample]]
    least_confident_correct: Mapping[str, Sequence[ShownExample]]
    shown_label_issues: Mapping[str, Sequence[LabelIssue]]
    label_issues: pd.DataFrame
    confidence: float
    colour: str


def render_report(report: Report) -> str:
    """Renders the report as HTML without external resources."""
    return render_page(
        Path(__file__).parent / "report.html.jinja",
        report=report,
        colour=report.colour,
        differing=find_unlike_slices(report.slices, report.confidence),
        tested=len(report.slices) - int(report.slices["too_small"].sum()),
    )


def format_table(heads: pd.DataFrame, metrics: Mapping[str, float]) -> str:
    """Formats the per-head table for a terminal.

    Args:
        heads: `Scores.heads`.
        metrics: Content of `reports/metrics.json`.

    Returns:
        Lines for heads, means and sums, a calibrated network, and test rows, if there are any.
    """
    totals = {name: metrics[name] for name in ("loss", "calibrated_loss")}
    totals |= {name: metrics[f"mean_{name}"] for name in ("majority", "ece", "calibrated_ece")}
    for end in ("", "_low", "_high"):
        totals[f"accuracy{end}"] = metrics[f"mean_accuracy{end}"]
    rows = {str(head): row.to_dict() for head, row in heads.iterrows()} | {"mean / sum": totals}
    columns = f"{'loss':>8}{'ece':>7}" * 2
    lines = [
        f"{'':<52}{'calibrated':>15}{'uncalibrated':>15}",
        f"{'head':<16}{'accuracy':>9}{'interval':>17}{'majority':>10}{columns}",
    ]
    for name, row in rows.items():
        interval = f"{row['accuracy_low']:.3f} to {row['accuracy_high']:.3f}"
        lines.append(
            f"{name:<16}{row['accuracy']:>9.3f}{interval:>17}{row['majority']:>10.3f}"
            f"{row['calibrated_loss']:>8.3f}{row['calibrated_ece']:>7.3f}"
            f"{row['loss']:>8.3f}{row['ece']:>7.3f}"
        )
    lines.append(
        f"A perfectly calibrated network has a mean ece of {metrics['mean_ece_if_calibrated']:.3f} "
        f"on {metrics['rows']:.0f} rows."
    )
    if "test_rows" in metrics:
        lines.append(
            f"{metrics['test_rows']:.0f} test rows (held out): mean accuracy "
            f"{metrics['test_mean_accuracy']:.3f} ({metrics['test_mean_accuracy_low']:.3f} to "
            f"{metrics['test_mean_accuracy_high']:.3f}), calibrated loss "
            f"{metrics['test_calibrated_loss']:.3f}, calibrated ece "
            f"{metrics['test_mean_calibrated_ece']:.3f}"
        )
    return "\n".join(lines)
