"""Model cards: Mitchell et al., Model Cards for Model Reporting, 2019."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from person_attributes.config import CardParams
from person_attributes.drawing.page import render_page, render_text
from person_attributes.evaluation.slices import find_unlike_slices

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Facts:
    """Facts about a model and its data.

    Attributes:
        name: Name of the registered model.
        backbone: Value of `model.backbone`.
        networks: Number of networks whose probabilities are averaged.
        starting_weights: Digest of pretrained weights; empty for random initialization.
        image_size: Input size in pixels.
        phases: Number of training phases.
        weights: Number of weights of all networks.
        source: Name of the folder or archive of the data.
        records: Number of records.
        records_digest: Digest of the records.
        parts: Number of rows in each part of the split.
        split_digest: Digest of the split.
        confidence: Confidence level of the intervals.
    """

    name: str
    backbone: str
    networks: int
    starting_weights: str
    image_size: int | str
    phases: int
    weights: int
    source: str
    records: int
    records_digest: str
    parts: Mapping[str, int]
    split_digest: str
    confidence: float


def render_card(
    facts: Facts,
    card: CardParams,
    metrics: Mapping[str, float],
    heads: pd.DataFrame,
    slices: pd.DataFrame,
) -> str:
    """Renders the card as Markdown.

    Args:
        facts: Facts about the model and its data.
        card: The section `card`: licence, intended use and contact.
        metrics: Content of `reports/metrics.json`.
        heads: `Scores.heads`.
        slices: Table of `score_slices`.
    """
    differing = find_unlike_slices(slices, facts.confidence)
    too_small = int(slices["too_small"].sum())
    text = render_text(
        _FOLDER / "model_card.md.jinja",
        **asdict(facts),
        card=card,
        metrics=metrics,
        rows=int(metrics["rows"]),
        scores=heads,
        unlearned=list(heads.index[heads["accuracy_low"] <= heads["majority"]]),
        weak=differing[differing["apart"] < 0],
        tested=len(slices) - too_small,
        too_small=too_small,
    )
    return text.strip() + "\n"


def write_card(markdown: str, folder: Path, colour: str) -> tuple[Path, Path]:
    """Writes `model_card.md` and `model_card.html` into a folder, and returns their paths."""
    text, page = folder / "model_card.md", folder / "model_card.html"
    text.write_text(markdown, encoding="utf-8")
    page.write_text(render_card_page(markdown, colour), encoding="utf-8")
    return text, page


def render_card_page(markdown: str, colour: str) -> str:
    """Renders a Markdown card as an HTML page without external resources."""
    from markdown_it import MarkdownIt

    # Class names are user input: HTML in them is escaped.
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    return render_page(
        _FOLDER / "model_card.html.jinja", body=parser.render(markdown), colour=colour
    )
