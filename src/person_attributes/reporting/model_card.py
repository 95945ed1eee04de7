"""The card of a model: what it is, what it must not be used for, how good it is and where not.

Mitchell et al., Model Cards for Model Reporting, 2019.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from person_attributes.config import CardParams
from person_attributes.drawing.page import render_page, render_text
from person_attributes.evaluation.scores import find_unlike_slices

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Facts:
    """What a card tells of a model.

    Attributes:
        name: Of the registered model.
        backbone: As `params.yaml` has it.
        starting_weights: Digest of the weights that were given; empty where they were drawn.
        image_size: In pixels.
        phases: How many trained it.
        weights: How many it has.
        source: The name of the data's folder or archive.
        records: How many there are.
        records_digest: Names them.
        parts: Number of rows of each part of the split.
        split_digest: Names it.
        confidence: Of the intervals.
    """

    name: str
    backbone: str
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
        facts: On the model and its data.
        card: What only people can say.
        metrics: What `evaluate` writes.
        heads: `Scores.heads`.
        slices: As `score_slices` gives them.
    """
    unlike = find_unlike_slices(slices)
    text = render_text(
        _FOLDER / "model_card.md.jinja",
        **asdict(facts),
        card=card,
        metrics=metrics,
        rows=int(metrics["rows"]),
        scores=heads,
        unlearned=list(heads.index[heads["accuracy_low"] <= heads["majority"]]),
        weak=unlike[unlike["apart"] < 0],
        slices=len(slices),
        small=int(slices["too_small"].sum()),
    )
    return text.strip() + "\n"


def write_card(markdown: str, folder: Path, colour: str) -> tuple[Path, Path]:
    """Writes `model_card.md` and `model_card.html` into a folder, and returns their paths."""
    text, page = folder / "model_card.md", folder / "model_card.html"
    text.write_text(markdown, encoding="utf-8")
    page.write_text(render_card_page(markdown, colour), encoding="utf-8")
    return text, page


def render_card_page(markdown: str, colour: str) -> str:
    """Renders a card as a page that opens offline."""
    from markdown_it import MarkdownIt

    # Names of classes are the user's: what looks like HTML in them stays text.
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    return render_page(
        _FOLDER / "model_card.html.jinja", body=parser.render(markdown), colour=colour
    )
