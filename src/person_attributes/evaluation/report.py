"""One self-contained page: table, curves, confusions, most confident mistakes. It opens offline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from person_attributes.drawing.page import render_page
from person_attributes.evaluation.metrics import Scores


@dataclass(frozen=True)
class Mistake:
    """A wrong answer of one head: which row, how sure the network was, and its picture."""

    row: int
    label: str
    prediction: str
    probability: float
    image: npt.NDArray[np.uint8]


def find_mistakes(
    y_true: npt.NDArray[np.float32],
    y_prob: npt.NDArray[np.float32],
    classes: Sequence[str],
    rows: Sequence[int],
    images: npt.NDArray[np.uint8],
    positions: npt.NDArray[np.intp],
    count: int,
) -> list[Mistake]:
    """Finds the wrong answers of one head that the network was surest of, surest first."""
    truth, prediction = y_true.argmax(axis=1), y_prob.argmax(axis=1)
    certainty = y_prob.max(axis=1)
    wrong = np.flatnonzero((truth != prediction) & y_true.any(axis=1))
    worst = wrong[np.argsort(-certainty[wrong], kind="stable")][:count]
    return [
        Mistake(
            row=rows[number],
            label=classes[truth[number]],
            prediction=classes[prediction[number]],
            probability=float(certainty[number]),
            image=np.asarray(images[positions[number]]),
        )
        for number in worst
    ]


def render_report(
    scores: Scores,
    test_scores: Scores | None,
    figures: Mapping[str, bytes],
    mistakes: Mapping[str, Sequence[Mistake]],
    colour: str,
    confidence: float,
) -> str:
    """Renders the page.

    Args:
        scores: The numbers of the validation rows.
        test_scores: Those of the test rows, where there are any.
        figures: PNG bytes by title, in the order to show them.
        mistakes: The surest mistakes of each head.
        colour: Accent colour, `#rrggbb`.
        confidence: Of the intervals.

    Returns:
        HTML that asks for nothing outside itself.
    """
    return render_page(
        Path(__file__).parent / "report.html.jinja",
        scores=scores,
        test_scores=test_scores,
        figures=figures,
        mistakes=mistakes,
        colour=colour,
        confidence=confidence,
    )


def format_table(heads: pd.DataFrame, metrics: Mapping[str, float]) -> str:
    """Formats the per-head table for a terminal.

    Args:
        heads: `Scores.heads`.
        metrics: `Scores.to_metrics()`.

    Returns:
        Lines of text, a head each, then the mean accuracy and the sum of losses, then those of the
        test rows where there are any.
    """
    totals = {
        "accuracy": metrics["mean_accuracy"],
        "low": metrics["mean_accuracy_low"],
        "high": metrics["mean_accuracy_high"],
        "majority": metrics["mean_majority"],
        "loss": metrics["loss"],
    }
    rows = {str(head): row.to_dict() for head, row in heads.iterrows()} | {"mean / sum": totals}
    lines = [f"{'head':<16}{'accuracy':>9}{'interval':>17}{'majority':>10}{'loss':>8}"]
    for name, row in rows.items():
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        lines.append(
            f"{name:<16}{row['accuracy']:>9.3f}{interval:>17}{row['majority']:>10.3f}"
            f"{row['loss']:>8.3f}"
        )
    if "test_rows" in metrics:
        lines.append(
            f"{metrics['test_rows']:.0f} test rows, which nothing saw before: mean accuracy "
            f"{metrics['test_mean_accuracy']:.3f} ({metrics['test_mean_accuracy_low']:.3f} to "
            f"{metrics['test_mean_accuracy_high']:.3f}), loss {metrics['test_loss']:.3f}"
        )
    return "\n".join(lines)
