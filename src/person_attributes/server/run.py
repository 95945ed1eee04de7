"""Runs the server: in this process, or in several workers that share its socket."""

import contextlib
import functools
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

import mlflow
from prometheus_client.multiprocess import mark_process_dead
from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from person_attributes.errors import PersonAttributesError, ServingError, one_line
from person_attributes.runtime.cores import count_cores
from person_attributes.server.application import build_application
from person_attributes.server.identity import Identity
from person_attributes.server.logs import LOG_CONFIG, LOGGER
from person_attributes.server.metrics import FOLDER
from person_attributes.server.settings import ServerSettings
from person_attributes.serving.classifier import ServedClassifier
from person_attributes.serving.threads import THREADS_VARIABLE

_HEALTHCHECK_SECONDS = 60
"""When the parent replaces a worker that does not react; a large image may hold it for seconds."""


def serve(folder: Path, settings: ServerSettings) -> None:
    """Serves a model until SIGTERM or Ctrl-C. The requests in flight are answered first.

    Args:
        folder: The files of the model.
        settings: The settings of the server.

    Raises:
        ServingError: If the model cannot be loaded, or the port is in use.
        RegistryError: If `PERSON_ATTRIBUTES_THREADS` is not a number.
    """
    create = create_application if settings.workers == 1 else _create_or_exit
    config = Config(
        functools.partial(create, folder, settings),
        factory=True,
        workers=settings.workers,
        lifespan="on",
        ws="none",
        log_config=LOG_CONFIG,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.stop_seconds,
        timeout_worker_healthcheck=_HEALTHCHECK_SECONDS,
    )
    # uvicorn raises the signal again when it has stopped.
    signal.signal(signal.SIGTERM, _interrupt)
    with _listen(settings) as listener, contextlib.suppress(KeyboardInterrupt):
        LOGGER.info("listening", extra={"fields": {"host": settings.host, "port": settings.port}})
        if settings.workers == 1:
            Server(config).run([listener])
        else:
            _run_workers(config, listener)


def create_application(folder: Path, settings: ServerSettings) -> ASGIApp:
    """Loads a model and builds the application of one worker.

    Raises:
        ServingError: If the model cannot be loaded.
        RegistryError: If `PERSON_ATTRIBUTES_THREADS` is not a number.
    """
    try:
        model = mlflow.pyfunc.load_model(str(folder))
        classifier = model.unwrap_python_model()
    except PersonAttributesError:
        raise
    except Exception as error:  # MLflow runs the code of the model and reads its files
        raise ServingError(f"{folder}: cannot be loaded: {one_line(error, 200)}") from None
    if not isinstance(classifier, ServedClassifier):
        raise ServingError(f"{folder}: expected a model of this project. Received: another one.")
    largest = classifier.limits.request_megabytes
    if settings.max_in_flight_megabytes < largest:
        raise ServingError(
            f"--max-in-flight-megabytes: expected at least {largest:g}, the largest request "
            f"(registry.serving.max_request_megabytes). Received: "
            f"{settings.max_in_flight_megabytes:g}."
        )
    identity = Identity.read(folder, model.metadata.model_id or "")
    return build_application(classifier, identity, settings)


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise ServingError(
            f"{settings.host}:{settings.port}: {reason}. Choose another --port or --host."
        ) from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _create_or_exit(folder: Path, settings: ServerSettings) -> ASGIApp:
    """Builds the application in a worker. Its parent stops if it exits with this code."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        return create_application(folder, settings)
    except PersonAttributesError as error:
        LOGGER.error(str(error))
        sys.exit(STARTUP_FAILURE)


def _stop_with_parent() -> None:
    """Stops a worker whose parent was killed; it would keep the port otherwise."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "uvicorn starts workers by multiprocessing"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


class _Workers(Multiprocess):
    """Workers that are replaced when they die."""

    def keep_subprocess_alive(self) -> None:
        for process in self.processes:
            # With a copy of the worker's end of the pipe, the parent would wait for the answer of a
            # worker that has ended.
            process.child_conn.close()
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            # Its requests are no longer in flight.
            mark_process_dead(pid)  # type: ignore[no-untyped-call]

    def terminate_all(self) -> None:
        # Otherwise new connections would wait for the workers to stop.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


def _run_workers(config: Config, listener: socket.socket) -> None:
    """Runs workers that share the cores, the socket and the metrics.

    Raises:
        ServingError: If no worker can start.
    """
    os.environ.setdefault(THREADS_VARIABLE, str(count_cores(config.workers)))
    with tempfile.TemporaryDirectory(prefix="person-attributes-metrics-") as folder:
        os.environ[FOLDER] = folder
        workers = _Workers(config, [listener])
        workers.run()
    if any(process.exitcode == STARTUP_FAILURE for process in workers.processes):
        raise ServingError("no worker can start. The log has the reason.")
