"""`POST /invocations`: reads a body within the limits, and answers it in a thread."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from person_attributes.server.in_flight import Admitted, InFlight
from person_attributes.server.metrics import Metrics, get_observation
from person_attributes.server.settings import ServerSettings
from person_attributes.serving.bodies import JSON_TYPE, read_request
from person_attributes.serving.classifier import ServedClassifier
from person_attributes.serving.endpoint import encode_answers
from person_attributes.serving.requests import RefusedRequest


class Invocations:
    """The ASGI application of this path."""

    def __init__(
        self, classifier: ServedClassifier, settings: ServerSettings, metrics: Metrics
    ) -> None:
        """Prepares one thread for each request in flight.

        Args:
            classifier: The served model. Its own threads decode and predict.
            settings: How many requests are in flight, and how long one takes at most.
            metrics: Where answers are counted.
        """
        self._classifier = classifier
        self._metrics = metrics
        self._seconds = settings.timeout_seconds
        self._threads = ThreadPoolExecutor(settings.max_in_flight, "answer")
        self._in_flight = InFlight(
            settings.max_in_flight, settings.max_in_flight_megabytes * 1e6, metrics.in_flight
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            content = await self._invoke(Request(scope, receive))
        except asyncio.CancelledError:  # by uvicorn, when --stop-seconds are over
            raise RefusedRequest("the server is stopping. Try again.", 503) from None
        await Response(content, media_type=JSON_TYPE)(scope, receive, send)

    def close(self) -> None:
        """Gives up the requests that no thread has begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _invoke(self, request: Request) -> bytes:
        given_up = threading.Event()
        deadline = asyncio.get_running_loop().time() + self._seconds
        admitted = self._in_flight.admit()
        try:
            body = await self._read(request, admitted, deadline)
            answer = self._threads.submit(self._answer, request, body, given_up.is_set)
        except BaseException:
            admitted.release()
            raise
        # Not before the thread has ended, even if the request is given up.
        answer.add_done_callback(lambda _: admitted.release())
        try:
            return await self._wait(request, answer, deadline)
        finally:
            given_up.set()

    async def _read(self, request: Request, admitted: Admitted, deadline: float) -> bytes:
        limits, parts = self._classifier.limits, list[bytes]()
        too_large = RefusedRequest(
            f"a request of more than {limits.request_megabytes:g} MB. Send fewer or smaller images "
            "per request.",
            413,
        )
        if int(request.headers.get("content-length", 0)) > limits.request_megabytes * 1e6:
            raise too_large
        try:
            async with asyncio.timeout_at(deadline):
                async for part in request.stream():
                    admitted.hold(len(part))
                    parts.append(part)
                    if admitted.size > limits.request_megabytes * 1e6:
                        raise too_large
        except TimeoutError:
            raise RefusedRequest(
                f"the request did not arrive within {self._seconds:g} s. Send it faster.", 408
            ) from None
        return b"".join(parts)

    async def _wait(self, request: Request, answer: Future[bytes], deadline: float) -> bytes:
        """Waits for an answer. It is given up if the client closes the connection."""
        answered = asyncio.wrap_future(answer)
        left = asyncio.create_task(_wait_until_left(request))
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.wait((answered, left), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise RefusedRequest(
                f"no answer within {self._seconds:g} s. Send fewer images per request.", 504
            ) from None
        else:
            if not answered.done():
                raise ClientDisconnect
            return answered.result()
        finally:
            left.cancel()
            # If no thread has begun it, none will. Otherwise its result is dropped: asyncio would
            # log an exception that nobody reads, with its message.
            answered.cancel()

    def _answer(self, request: Request, body: bytes, is_given_up: Callable[[], bool]) -> bytes:
        read = read_request(body, request.headers.get("content-type"), self._classifier.limits)
        answers = self._classifier.answer(read, is_given_up)
        get_observation(request.scope).rows = len(answers)
        self._metrics.count_answers(answers)
        return encode_answers(answers)


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
