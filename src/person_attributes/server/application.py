"""The ASGI application of `person-attributes serve`.

It has the routes of MLflow's scoring server, and those that operators need: MLflow's application
has no hook for them.
"""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import asdict

from mlflow.version import VERSION
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from person_attributes.server.api_page import format_page
from person_attributes.server.identity import Identity
from person_attributes.server.invocations import Invocations
from person_attributes.server.logs import LOGGER
from person_attributes.server.metrics import INVOCATIONS, Metrics
from person_attributes.server.middleware import REQUEST_ID, Linger, Observe, RequireHost
from person_attributes.server.openapi import describe_api
from person_attributes.server.refusals import CLIENT_LEFT, refuse
from person_attributes.server.settings import ServerSettings
from person_attributes.serving.classifier import ServedClassifier
from person_attributes.serving.requests import RefusedRequest, RequestOptions
from person_attributes.serving.requests import Request as ModelRequest


class Health:
    """What the health routes answer. The network is ready when it has answered once."""

    def __init__(self, classifier: ServedClassifier) -> None:
        self._classifier = classifier
        self._state = "loading"

    def try_network(self) -> None:
        """Waits for the network, and lets it answer a grey image."""
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (128, 128, 128)).save(buffer, "PNG")
        try:
            self._classifier.answer(ModelRequest([buffer.getvalue()], RequestOptions()))
        except Exception:
            self._state = "broken"
            LOGGER.exception("the network cannot answer. Serve another version.")
        else:
            self._state = "ready"
            LOGGER.info("the network has answered")

    async def ping(self, _: Request) -> Response:
        """Answers as MLflow's server does: the process is alive."""
        return Response("\n", media_type="application/json")

    async def ready(self, _: Request) -> Response:
        """Answers 200 if the network is ready, else 503."""
        return JSONResponse({"state": self._state}, 200 if self._state == "ready" else 503)


def build_application(
    classifier: ServedClassifier, identity: Identity, settings: ServerSettings
) -> ASGIApp:
    """Builds the application of one worker.

    Args:
        classifier: The served model.
        identity: Its name and version.
        settings: The settings of the server.
    """
    metrics = Metrics(identity)
    health, invocations = Health(classifier), Invocations(classifier, settings, metrics)

    @contextlib.asynccontextmanager
    async def run(_: Starlette) -> AsyncIterator[None]:
        trying = asyncio.get_running_loop().run_in_executor(None, health.try_network)
        yield
        invocations.close()
        await trying

    routes = [
        Route(INVOCATIONS, invocations, methods=["POST"]),
        *(Route(path, health.ping) for path in ("/ping", "/health", "/v2/health/live")),
        *(Route(path, health.ready) for path in ("/ready", "/v2/health/ready")),
        *_list_documents(classifier, identity, metrics),
    ]
    handlers = {RefusedRequest: _refuse, HTTPException: _explain, ClientDisconnect: _leave}
    application: ASGIApp = Starlette(
        routes=routes, lifespan=run, exception_handlers={**handlers, Exception: _fail}
    )
    if settings.allowed_origins:
        application = CORSMiddleware(
            application,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", REQUEST_ID],
            expose_headers=[REQUEST_ID, *identity.headers],
        )
    application = RequireHost(application, settings.allowed_hosts)
    return Linger(Observe(application, {route.path for route in routes}, identity, metrics))


def _list_documents(
    classifier: ServedClassifier, identity: Identity, metrics: Metrics
) -> list[Route]:
    """Lists the routes of what does not depend on the state of the network."""
    document = describe_api(identity, classifier)
    page = format_page(document)

    async def show_version(_: Request) -> Response:
        return JSONResponse({**asdict(identity), "mlflow": VERSION})

    async def show_metrics(request: Request) -> Response:
        content, content_type = metrics.format(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": content_type})

    async def show_document(_: Request) -> Response:
        return JSONResponse(document)

    async def show_page(_: Request) -> Response:
        return HTMLResponse(page)

    return [
        Route("/version", show_version),
        Route("/metrics", show_metrics),
        Route("/openapi.json", show_document),
        Route("/docs", show_page),
    ]


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedRequest)
    return refuse(error)


async def _explain(_: Request, error: Exception) -> Response:
    """Answers a request for another path or method."""
    assert isinstance(error, HTTPException)
    message = f"{error.detail.lower()}. GET /docs lists the paths and methods."
    response = refuse(RefusedRequest(message, error.status_code))
    response.headers.update(error.headers or {})
    return response


async def _leave(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


async def _fail(_: Request, __: Exception) -> Response:
    return refuse(RefusedRequest("unexpected error. Report it with the X-Request-ID.", 500))
