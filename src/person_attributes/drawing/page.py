"""Renders self-contained HTML pages and Markdown."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from PIL import Image


def render_page(template: Path, **content: Any) -> str:
    """Renders an HTML page that needs no other file.

    Args:
        template: A template that extends `page.html.jinja`. Its filter `picture` converts an RGB
            array to a data URL.
        content: Variables of the template; `colour` is the accent colour, `#rrggbb`.

    Returns:
        HTML.
    """
    environment = _make_environment(template.parent, autoescape=True)
    environment.filters["picture"] = _to_data_url
    return environment.get_template(template.name).render(**content)


def render_text(template: Path, **content: Any) -> str:
    """Renders Markdown; bars and line breaks in values are escaped for cells of tables."""
    environment = _make_environment(template.parent, autoescape=False)
    environment.finalize = lambda value: (
        re.sub(r"\s*\n\s*", " ", value).replace("|", r"\|") if isinstance(value, str) else value
    )
    return environment.get_template(template.name).render(**content)


def _make_environment(folder: Path, *, autoescape: bool) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _to_data_url(image: npt.NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)  # a tenth of the size of a PNG
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
