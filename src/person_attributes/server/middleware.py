"""What every request passes: the check of its host, its id and log line, the end of its body."""

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from person_attributes.server.identity import Identity
from person_attributes.server.logs import LOGGER
from person_attributes.server.metrics import INVOCATIONS, Metrics, Observation
from person_attributes.server.refusals import refuse
from person_attributes.serving.requests import RefusedRequest

REQUEST_ID = "X-Request-ID"

_VALID_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)

_PORT = re.compile(r":\d+$", re.ASCII)

_LINGER_SECONDS = 5.0
"""As nginx's `lingering_timeout`."""


class Observe:
    """Logs and counts every request, and adds its id and the served version to the answer."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Collection[str],
        identity: Identity,
        metrics: Metrics,
    ) -> None:
        """Wraps an application.

        Args:
            app: The application.
            routes: The known paths. Others are not logged: they may contain anything.
            identity: The served version.
            metrics: Where requests are counted.
        """
        self._app = app
        self._routes = routes
        self._identity = identity
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given, path = Headers(scope=scope).get(REQUEST_ID, ""), scope["path"]
        observed = Observation(
            request_id=given if _VALID_ID.fullmatch(given) else uuid.uuid4().hex,
            route=path if path in self._routes else "other",
        )
        scope.setdefault("state", {})["observation"] = observed

        async def receive_counted() -> Message:
            message = await receive()
            observed.received += len(message.get("body", b""))
            return message

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                observed.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update({**self._identity.headers, REQUEST_ID: observed.request_id})
            observed.sent += len(message.get("body", b""))
            observed.seconds = time.perf_counter() - observed.started
            await send(message)

        try:
            await self._app(scope, receive_counted, send_counted)
        except Exception:  # answered with 500; uvicorn would log its message
            LOGGER.exception("failed", extra={"fields": {"request_id": observed.request_id}})
        finally:
            self._record(observed)

    def _record(self, observed: Observation) -> None:
        self._metrics.count_request(observed)
        if observed.route == INVOCATIONS or observed.status >= 400:
            fields = {
                "request_id": observed.request_id,
                "route": observed.route,
                "status": observed.status,
                "error": observed.error,
                "rows": observed.rows,
                "received_bytes": observed.received,
                "sent_bytes": observed.sent,
                "seconds": round(observed.seconds, 4),
                "model": self._identity.name,
                "version": self._identity.version,
            }
            LOGGER.info("request", extra={"fields": fields})


class RequireHost:
    """Refuses requests to other host names.

    Otherwise any web page could reach a server on loopback through its visitor's browser, by a name
    that its owner makes point to 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """Wraps an application.

        Args:
            app: The application.
            hosts: The accepted names; `*` accepts any. Ports do not count.
        """
        self._app = app
        self._hosts = {_PORT.sub("", host.lower()) for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "*" not in self._hosts:
            host = _PORT.sub("", Headers(scope=scope).get("host", ""))
            if host.lower() not in self._hosts:
                error = RefusedRequest(
                    f"Host: expected {', '.join(sorted(self._hosts))}. Received: another name. "
                    "Start the server with --allowed-hosts to accept it."
                )
                await refuse(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Linger:
    """Closes the connection after an answer that was sent while a body still arrives.

    What arrives is discarded for a few seconds first. If the connection were closed at once, the
    client would see a reset connection instead of the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        arriving = True

        async def receive_body() -> Message:
            nonlocal arriving
            message = await receive()
            arriving = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def send_answer(message: Message) -> None:
            if arriving and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            if not arriving or message["type"] == "http.response.start":
                await send(message)
                return
            await send({**message, "more_body": True})
            # uvicorn cancels it when --stop-seconds are over.
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    while arriving:
                        await receive_body()
            await send({"type": "http.response.body"})

        await self._app(scope, receive_body, send_answer)


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
