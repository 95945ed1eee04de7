"""Loads the models, and serves the page on 127.0.0.1."""

import contextlib
import socket
import sys
import tempfile
import webbrowser
from pathlib import Path

import uvicorn

from person_attributes.commands.demo.application import build_application
from person_attributes.commands.demo.corrections import Corrections
from person_attributes.commands.demo.served import Served
from person_attributes.config import Params
from person_attributes.data.sample import draw_sample
from person_attributes.errors import RegistryError, ServingError
from person_attributes.registry.promotion import require_champion
from person_attributes.workspace import Workspace

_HOST = "127.0.0.1"
_PORTS = range(7860, 7960)
_MOST_MODELS = 2

_EXAMPLES = 6
_EXAMPLES_SEED = 8
"""Any seed; with this one, the six people differ."""


def demo(
    workspace: Workspace,
    params: Params,
    model: list[str] | None,
    corrections: Path | None,
    port: int | None,
) -> None:
    """Serves the page until it is interrupted.

    Args:
        workspace: The project; its store has the models.
        params: The limits of an image, the size of the examples, and the colour of the page.
        model: One or two URIs such as `models:/person-attributes@champion`; None for the champion.
        corrections: The folder for corrected photographs; None to keep none.
        port: The port to listen on; None for the first free one from 7860.

    Raises:
        RegistryError: If there is no such model, or more than two. Name other models.
        AnnotationsError: If the folder has corrections with other columns. Name another folder.
        ParamsError: If corrections cannot have the columns of `params.yaml`. Rename one.
        ServingError: If the port cannot be opened. Name another port.
    """
    names = model or [require_champion(workspace, params)]
    if len(names) > _MOST_MODELS:
        raise RegistryError(f"--model: expected at most two. Received: {len(names)}. Remove some.")
    kept = None if corrections is None else Corrections(corrections, params.data, params.heads)
    with _listen(port) as listener:
        served = [Served(name, workspace) for name in names]
        examples = _draw_examples(params.sample.image_size)
        application = build_application(served, examples, kept, params)
        address = f"http://{_HOST}:{listener.getsockname()[1]}"
        versions = " and ".join(names)
        print(f"demo: {versions} at {address} on this machine only; Ctrl-C to quit", flush=True)
        if sys.stdout.isatty():
            webbrowser.open(address)
        # The application reports errors itself, without a stack trace.
        server = uvicorn.Server(uvicorn.Config(application, log_level="critical"))
        # uvicorn answers the requests in flight, stops, and raises the signal again.
        with contextlib.suppress(KeyboardInterrupt):
            server.run([listener])


def _listen(port: int | None) -> socket.socket:
    """Listens on a port, or on the first free one."""
    error: Exception | None = None
    for number in _PORTS if port is None else [port]:
        try:
            return socket.create_server((_HOST, number))
        except (OSError, OverflowError) as failure:
            error = failure
    received = f"ports {_PORTS[0]} to {_PORTS[-1]}" if port is None else f"port {port}"
    reason = getattr(error, "strerror", None) or str(error).removesuffix(".")
    raise ServingError(
        f"demo: {received}: cannot be opened: {reason}. Name another one with --port."
    )


def _draw_examples(image_size: int) -> list[bytes]:
    """Draws people like those of the sample, as JPEG."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_sample(folder, _EXAMPLES, image_size, _EXAMPLES_SEED)
        paths = [folder / f"resized/{number}.jpg" for number in range(1, _EXAMPLES + 1)]
        return [path.read_bytes() for path in paths]
