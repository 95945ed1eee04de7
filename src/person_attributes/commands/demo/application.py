"""The web application of the demo: the files of the page, and the endpoints that it calls.

The body of a request is the bytes of one image file. Its content type is not one that a form can
send, so a browser does not let pages of other sites send it.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from person_attributes.commands.demo.corrections import Corrections
from person_attributes.commands.demo.served import Served
from person_attributes.config import Params
from person_attributes.errors import ImageError, one_line
from person_attributes.registry.model import read_limits

_PAGE = Path(__file__).parent / "page"
_CONTENT_TYPE = "application/octet-stream"

_HOSTS = ("127.0.0.1", "localhost")
"""Accepted values of `Host`. A page of another site could reach this server under its own name."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:;"
    " script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def build_application(
    models: Sequence[Served],
    examples: Sequence[bytes],
    corrections: Corrections | None,
    params: Params,
) -> Starlette:
    """Builds the application.

    Args:
        models: The models that answer, in the order of the page.
        examples: JPEG files that the page offers.
        corrections: The kept corrections; None if the page must not keep any.
        params: The limits of an image, and the colour of the page.
    """
    endpoints = _Endpoints(models, examples, corrections, params)
    return Starlette(
        routes=[
            Route("/settings", endpoints.describe_settings),
            Route("/examples/{number:int}.jpg", endpoints.get_example),
            Route("/answers", endpoints.answer, methods=["POST"]),
            Route("/heatmaps/{model:int}", endpoints.compute_heatmaps, methods=["POST"]),
            Route("/corrections", endpoints.correct, methods=["POST"]),
            Route("/corrections", endpoints.delete_corrections, methods=["DELETE"]),
            Mount("/", StaticFiles(directory=_PAGE, html=True)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS, www_redirect=False),
            Middleware(_Headers),
        ],
        exception_handlers={Exception: _report},
    )


async def _report(request: Request, error: Exception) -> Response:
    """Prints an unexpected error in one line."""
    message = one_line(f"{request.url.path}: {type(error).__name__}: {error}", 300)
    print(f"demo: {message}", file=sys.stderr, flush=True)
    return PlainTextResponse("The demo has failed. Its terminal shows the error.", 500)


class _Headers:
    """Adds `_HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _Endpoints:
    """The endpoints, one method each."""

    def __init__(
        self,
        models: Sequence[Served],
        examples: Sequence[bytes],
        corrections: Corrections | None,
        params: Params,
    ) -> None:
        self._models, self._examples, self._corrections = models, examples, corrections
        self._colour = params.report.colour
        self._max_bytes = int(read_limits(params).image_megabytes * 1e6)
        self._heatmaps = asyncio.Lock()

    async def describe_settings(self, _: Request) -> Response:
        """Returns what the page needs to know when it opens."""
        kept = self._corrections
        return JSONResponse(
            {
                "models": [model.name for model in self._models],
                "examples": [f"examples/{number}.jpg" for number in range(len(self._examples))],
                "maxBytes": self._max_bytes,
                "colour": self._colour,
                "corrections": None if kept is None else kept.describe(),
            }
        )

    async def get_example(self, request: Request) -> Response:
        """Returns one drawn person."""
        number = request.path_params["number"]
        if number >= len(self._examples):
            raise HTTPException(404)
        return Response(self._examples[number], media_type="image/jpeg")

    async def answer(self, request: Request) -> Response:
        """Returns the answer of each model, and the kept labels of the photograph."""
        content = await self._read(request)

        def answer() -> dict[str, Any]:
            answers = [asdict(model.ask(content)) for model in self._models]
            kept = self._corrections.read(content) if self._corrections else {}
            return {"answers": answers, "kept": kept}

        return JSONResponse(await run_in_threadpool(answer))

    async def compute_heatmaps(self, request: Request) -> Response:
        """Returns a heat map for each head of one model, unless the page no longer waits for it."""
        number = request.path_params["model"]
        if number >= len(self._models):
            raise HTTPException(404)
        content = await self._read(request)
        async with self._heatmaps:
            if await request.is_disconnected():
                return Response(status_code=204)
            heatmaps = await run_in_threadpool(self._models[number].explain, content)
        return JSONResponse(heatmaps)

    async def correct(self, request: Request) -> Response:
        """Keeps the right class of a head, or removes it if the class is empty."""
        corrections = self._require_corrections()
        content = await self._read(request)
        head, label = (request.query_params.get(name, "") for name in ("head", "class"))
        if not corrections.accepts(head, label):
            raise HTTPException(422, "Expected a head and a class of params.yaml.")
        try:
            kept = await run_in_threadpool(corrections.keep, content, head, label)
        except (ImageError, OSError) as error:
            raise HTTPException(422, f"Not kept: {one_line(error, 300)}.") from None
        return JSONResponse({"kept": kept, "corrections": corrections.describe()})

    async def delete_corrections(self, _: Request) -> Response:
        """Deletes all corrections."""
        corrections = self._require_corrections()
        await run_in_threadpool(corrections.delete)
        return JSONResponse({"kept": {}, "corrections": corrections.describe()})

    def _require_corrections(self) -> Corrections:
        if self._corrections is None:
            raise HTTPException(403, "Corrections are off. Start the demo with --corrections.")
        return self._corrections

    async def _read(self, request: Request) -> bytes:
        """Reads the image file in the body of a request."""
        if request.headers.get("Content-Type") != _CONTENT_TYPE:
            raise HTTPException(415, f"Expected the content type {_CONTENT_TYPE}.")
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > self._max_bytes:
                raise HTTPException(413, f"Expected at most {self._max_bytes} bytes.")
        return bytes(content)
