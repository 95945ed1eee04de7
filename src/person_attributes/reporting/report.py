"""One self-contained page about an evaluation; it opens offline. And the table for a terminal."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.drawing.page import render_page
from person_attributes.evaluation.scores import Scores, find_unlike_slices
from person_attributes.reporting.examples import Example


@dataclass(frozen=True)
class ShownExample:
    """An answer with its image, and where the network looked for it."""

    example: Example
    image: npt.NDArray[np.uint8]
    heat: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SuspiciousLabel:
    """A row of `find_label_issues` with its image."""

    found: Mapping[Hashable, Any]
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Report:
    """Everything that the page speaks of.

    Attributes:
        scores: Of the validation rows.
        test_scores: Of the test rows, where there are any.
        train_metrics: `train_loss`, `train_mean_accuracy` and `train_rows`: training rows, scored
            as the others are.
        temperatures: Of each head.
        slices: As `score_slices` gives them.
        figures: SVG by title, in the order to show them.
        mistakes: The surest ones of each head.
        least_confident_correct: The least certain ones of each head.
        suspicious: Labels of each head that look wrong and are shown, the worst first.
        label_issues: All of them, as `find_label_issues` gives them.
        confidence: Of the intervals.
        colour: Accent, `#rrggbb`.
    """

    scores: Scores
    test_scores: Scores | None
    train_metrics: Mapping[str, float]
    temperatures: Mapping[str, float]
    slices: pd.DataFrame
    figures: Mapping[str, str]
    mistakes: Mapping[str, Sequence[ShownExample]]
    least_confident_correct: Mapping[str, Sequence[ShownExample]]
    suspicious: Mapping[str, Sequence[SuspiciousLabel]]
    label_issues: pd.DataFrame
    confidence: float
    colour: str


def render_report(report: Report) -> str:
    """Renders the page: HTML that asks for nothing outside itself."""
    return render_page(
        Path(__file__).parent / "report.html.jinja",
        report=report,
        colour=report.colour,
        weak=find_unlike_slices(report.slices),
    )


def format_table(heads: pd.DataFrame, metrics: Mapping[str, float]) -> str:
    """Formats the per-head table for a terminal.

    Args:
        heads: `Scores.heads`.
        metrics: What `evaluate` writes.

    Returns:
        Lines of text, a head each, then the mean accuracy and the sum of losses, then those of the
        test rows where there are any.
    """
    totals = {
        "accuracy": metrics["mean_accuracy"],
        "accuracy_low": metrics["mean_accuracy_low"],
        "accuracy_high": metrics["mean_accuracy_high"],
        "majority": metrics["mean_majority"],
        "loss": metrics["loss"],
        "calibrated_ece": metrics["mean_calibrated_ece"],
    }
    rows = {str(head): row.to_dict() for head, row in heads.iterrows()} | {"mean / sum": totals}
    lines = [f"{'head':<16}{'accuracy':>9}{'interval':>17}{'majority':>10}{'loss':>8}{'ece':>7}"]
    for name, row in rows.items():
        interval = f"{row['accuracy_low']:.3f} to {row['accuracy_high']:.3f}"
        lines.append(
            f"{name:<16}{row['accuracy']:>9.3f}{interval:>17}{row['majority']:>10.3f}"
            f"{row['loss']:>8.3f}{row['calibrated_ece']:>7.3f}"
        )
    if "test_rows" in metrics:
        lines.append(
            f"{metrics['test_rows']:.0f} test rows, which nothing saw before: mean accuracy "
            f"{metrics['test_mean_accuracy']:.3f} ({metrics['test_mean_accuracy_low']:.3f} to "
            f"{metrics['test_mean_accuracy_high']:.3f}), loss {metrics['test_loss']:.3f}"
        )
    return "\n".join(lines)
