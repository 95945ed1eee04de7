"""Self-contained pages: they open offline and ask for nothing outside themselves."""

import base64
from pathlib import Path
from typing import Any

import jinja2

from person_attributes.drawing.figures import encode_jpeg


def render_page(template: Path, **content: Any) -> str:
    """Renders a page on the common base.

    Args:
        template: Extends `base.html.jinja`; its filters `png` (bytes) and `picture` (RGB array)
            give addresses for images.
        content: What the template names; `colour` is the accent, `#rrggbb`.

    Returns:
        HTML.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png"] = lambda png: _to_data_url(png, "png")
    environment.filters["picture"] = lambda image: _to_data_url(encode_jpeg(image), "jpeg")
    return environment.get_template(template.name).render(**content)


def _to_data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
