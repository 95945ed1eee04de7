"""The page of the demo, built with Gradio and served on 127.0.0.1."""

import contextlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from person_attributes.commands.demo.served import Answer, Served
from person_attributes.config import Params
from person_attributes.data.images import decode_image
from person_attributes.drawing.page import render_page
from person_attributes.errors import RegistryError
from person_attributes.registry.promotion import require_champion
from person_attributes.workspace import Workspace

if TYPE_CHECKING:
    import gradio

_HERE = Path(__file__).parent
_SHOWN_PIXELS = 720
"""Longest side of the photograph on the page, in pixels."""

_SWITCHED_OFF = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
"""Turns off telemetry and downloads; the libraries read these variables on import."""

_SECONDS_TO_KEEP = 60
"""When an aborted upload is removed; any other upload is removed as soon as it is read."""


def demo(workspace: Workspace, params: Params, model: str, port: int | None) -> None:
    """Serves the page until it is interrupted.

    Args:
        workspace: The project; its store has the model.
        params: The size limit of a file, and the colour of the page.
        model: A URI such as `models:/person-attributes@champion`; empty for the champion.
        port: The port to listen on; None for the first free one from 7860.

    Raises:
        RegistryError: If there is no such model, or Gradio is not installed: run `make demo`.
    """
    if importlib.util.find_spec("gradio") is None:
        raise RegistryError("demo: gradio is not installed. Run make demo, which installs it.")
    os.environ.update(_SWITCHED_OFF)
    model = model or require_champion(workspace, params)
    served = Served(model, workspace)
    with tempfile.TemporaryDirectory(prefix="person-attributes-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # read when Gradio is imported
        page = _build(served, model, params.report.colour)
        try:
            address = _launch(page, params, port)
            print(f"demo: {model} at {address} on this machine only; Ctrl-C to quit", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
        finally:
            page.close(verbose=False)


def _launch(page: "gradio.Blocks", params: Params, port: int | None) -> str:
    """Starts the server of the page on 127.0.0.1; returns its address."""
    _, address, _ = page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        inbrowser=sys.stdout.isatty(),
        prevent_thread_lock=True,
        quiet=True,
        max_file_size=int(params.data.limits.image_megabytes * 1e6),
        footer_links=[],
        run_history=False,  # the browser would store the photographs
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=_make_theme(),
        css_paths=_HERE / "demo.css",
    )
    return str(address)


def _build(served: Served, model: str, colour: str) -> "gradio.Blocks":
    import gradio

    def answer(path: str | None) -> Iterator[tuple[Any, str]]:
        if path:
            for text in _answer(served, path, colour):
                yield None, text

    page: gradio.Blocks
    with gradio.Blocks(
        title="Try it on a photograph",
        analytics_enabled=False,
        delete_cache=(_SECONDS_TO_KEEP, _SECONDS_TO_KEEP),
    ) as page:
        gradio.HTML(render_page(_HERE / "notice.html.jinja", model=model, colour=colour))
        photograph = gradio.Image(
            label="Photograph",
            sources=["upload", "webcam", "clipboard"],
            type="filepath",
            buttons=[],
            height=230,
            elem_id="photograph",
        )
        # Pass the file on unchanged: the model has its own decoder. A subclass is no option,
        # because Gradio writes a file beside the code of each subclass.
        photograph.preprocess = _get_path  # type: ignore[method-assign]
        output = gradio.HTML(elem_id="answer")
        photograph.input(
            answer,
            photograph,
            [photograph, output],
            show_progress="hidden",
            api_visibility="private",
        )
    return page


def _get_path(payload: Any) -> str | None:
    """Returns the path of an upload. Gradio refuses paths outside its own folder earlier."""
    return payload.path if payload else None


def _answer(served: Served, path: str, colour: str) -> Iterator[str]:
    """Renders the answer at once, and again with the heat maps when they are computed."""
    file = Path(path)
    try:
        content = file.read_bytes()
        answer = served.ask(content)
    finally:
        file.unlink(missing_ok=True)
    if answer.reason:
        yield _render(answer, colour)
        return
    image = decode_image(content, np.inf)  # the model has checked its size
    shown = image.copy()
    shown.thumbnail((_SHOWN_PIXELS, _SHOWN_PIXELS))
    yield _render(answer, colour, shown, "Computing the heat maps.")
    try:
        heats = _overlay_heatmaps(served, answer, image, shown)
    except Exception as error:  # a version of another Keras may fail; the answer stays valid
        print(f"demo: no heat maps: {error}", file=sys.stderr)
        yield _render(answer, colour, shown, "Heat maps are not available for this model.")
        return
    yield _render(answer, colour, shown, heats=heats)


def _overlay_heatmaps(
    served: Served, answer: Answer, image: Image.Image, shown: Image.Image
) -> dict[str, Any]:
    from person_attributes.reporting.plots import overlay_heatmap

    labels = {head: prediction["label"] for head, prediction in answer.heads.items()}
    heats = served.load_attention().explain(image, labels)
    return {head: overlay_heatmap(np.asarray(shown), heat) for head, heat in heats.items()}


def _render(
    answer: Answer,
    colour: str,
    photograph: Image.Image | None = None,
    note: str = "",
    heats: dict[str, Any] | None = None,
) -> str:
    return render_page(
        _HERE / "answer.html.jinja",
        answer=answer,
        photograph=None if photograph is None else np.asarray(photograph),
        note=note,
        heats=heats or {},
        colour=colour,
    )


def _make_theme() -> Any:
    import gradio

    # System fonts: Gradio's own themes download theirs.
    return gradio.themes.Base(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
