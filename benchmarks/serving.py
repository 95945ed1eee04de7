"""The served model against bare ONNX Runtime and Keras in a pyfunc: DenseNet121 at 200 px.

`python -m benchmarks.serving soak SECONDS` keeps a server at full load and prints its memory.
"""

import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.comparison import Comparison
from benchmarks.loopback import find_ports
from benchmarks.people import RECIPE, build_network, draw_people, register_network

_IMAGE_SIZE = 200
_CLIENTS = (1, 8, 64)
_ROUNDS = 40
_SECONDS = 20.0
"""Duration of each load."""


def measure() -> Iterator[Comparison]:
    """Compares one image in the process, the start of a server, its memory, and HTTP loads."""
    with tempfile.TemporaryDirectory() as folder:
        ours, rival = _make_models(Path(folder))
        yield from _time_in_process(ours, rival)
        loads = [_serve_and_load(model) for model in (ours, rival)]
        yield from _compare(*loads)


def _make_models(folder: Path) -> tuple[Path, Path]:
    """Saves both models with the same weights in MLflow's format."""
    import mlflow

    import person_attributes
    from person_attributes.labels import LabelMap

    network, saved = build_network(_IMAGE_SIZE), folder / "n.keras"
    network.save(saved)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    version = register_network(network, LabelMap.declare(RECIPE.heads), saved, "ours", folder)
    ours = mlflow.artifacts.download_artifacts(f"models:/ours/{version}", dst_path=str(folder))
    mlflow.pyfunc.save_model(
        folder / "rival",
        python_model=str(Path(__file__).parent / "keras_pyfunc.py"),
        artifacts={"network": str(saved)},
        code_paths=[str(Path(person_attributes.__file__).parent)],
        pip_requirements=["mlflow"],
        signature=mlflow.models.infer_signature({"image": ["a"]}),
    )
    return Path(ours), folder / "rival"


def _time_in_process(ours: Path, rival: Path) -> Iterator[Comparison]:
    import mlflow
    import pandas as pd

    from person_attributes.data.images import decode_image, resize_image
    from person_attributes.serving.network import Network

    content = _read_photograph()
    table = pd.DataFrame({"image": [base64.b64encode(content).decode()]})
    network = Network(ours / "artifacts" / "n.onnx")
    image = resize_image(decode_image(content, 64), network.image_size, "keep")[None]
    served, keras = (mlflow.pyfunc.load_model(str(model)) for model in (ours, rival))
    times = _alternate(
        lambda: served.predict(table), lambda: network.predict(image), lambda: keras.predict(table)
    )
    for name, pick in (("median", np.median), ("p99", lambda one: np.quantile(one, 0.99))):
        mine, bare, slow = (1000 * float(pick(one)) for one in times)
        yield Comparison(
            f"one image, {name}: pyfunc against bare ONNX Runtime",
            mine,
            bare,
            "ms",
            bare / mine,
            0.8,
        )
        yield Comparison(
            f"one image, {name}: pyfunc against Keras' pyfunc", mine, slow, "ms", slow / mine, 2
        )


def _alternate(*functions: Callable[[], Any]) -> list[npt.NDArray[np.float64]]:
    seconds: list[list[float]] = [[] for _ in functions]
    for round_number in range(_ROUNDS + 3):
        for function, taken in zip(functions, seconds, strict=True):
            began = time.perf_counter()
            function()
            if round_number >= 3:
                taken.append(time.perf_counter() - began)
    return [np.array(taken) for taken in seconds]


def _read_photograph() -> bytes:
    people = draw_people(16)
    path: Path = people.folder / str(people.table["image_path"][0])
    return path.read_bytes()


@dataclass(frozen=True)
class _Load:
    """Measurements of a server.

    Attributes:
        start: Seconds to the first response.
        megabytes: Memory after the first response.
        latencies: Seconds of each request, by number of clients.
        rates: Images per second, by number of clients.
    """

    start: float
    megabytes: float
    latencies: dict[int, npt.NDArray[np.float64]]
    rates: dict[int, float]


def _compare(ours: _Load, rival: _Load) -> Iterator[Comparison]:
    rival_name = "against Keras' pyfunc"
    yield Comparison(
        f"server's start to first response, {rival_name}",
        ours.start,
        rival.start,
        "s",
        rival.start / ours.start,
        None,
    )
    yield Comparison(
        f"server's memory after it, {rival_name}",
        ours.megabytes,
        rival.megabytes,
        "MB",
        rival.megabytes / ours.megabytes,
        None,
    )
    for clients in _CLIENTS:
        for name, share in (("median", 0.5), ("p99", 0.99)):
            mine, slow = (
                1000 * float(np.quantile(one.latencies[clients], share)) for one in (ours, rival)
            )
            yield Comparison(
                f"HTTP, {clients} clients, {name}, {rival_name}",
                mine,
                slow,
                "ms",
                slow / mine,
                None,
            )
        mine, slow = ours.rates[clients], rival.rates[clients]
        title = f"HTTP, {clients} clients, {rival_name}"
        yield Comparison(title, mine, slow, "images/s", mine / slow, None)


def _serve_and_load(model: Path) -> _Load:
    content = _make_request()
    began = time.perf_counter()
    with serve_model(model) as (address, process):
        while not _ask(address, content):
            time.sleep(0.1)
        start = time.perf_counter() - began
        megabytes = _measure_memory(process)
        taken = {clients: _load(address, content, clients, _SECONDS) for clients in _CLIENTS}
    latencies = {clients: np.array(one) for clients, one in taken.items()}
    rates = {clients: len(one) / _SECONDS for clients, one in taken.items()}
    return _Load(start, megabytes, latencies, rates)


def _make_request() -> bytes:
    image = base64.b64encode(_read_photograph()).decode()
    return json.dumps({"dataframe_records": [{"image": image}]}).encode()


@contextlib.contextmanager
def serve_model(model: Path | str) -> Iterator[tuple[str, int]]:
    """Serves a model on a free port; yields its URL and its process id."""
    (port,) = find_ports(1)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model)]
    process = subprocess.Popen(
        [*command, "-p", str(port), "--env-manager", "local"],
        env=os.environ | {"PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _ask(address: str, content: bytes) -> bool:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
    try:
        connection.request("POST", "/invocations", content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
    except OSError:
        return False
    finally:
        connection.close()
    return answer.status == 200


def _load(address: str, content: bytes, clients: int, seconds: float) -> list[float]:
    """Sends requests from several clients, each one sequentially; returns all latencies."""
    until, taken, failed = time.perf_counter() + seconds, list[float](), threading.Event()

    def ask_repeatedly() -> None:
        while (began := time.perf_counter()) < until:
            if not _ask(address, content):
                failed.set()
            taken.append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask_repeatedly) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed.is_set():
        raise RuntimeError(f"{address}: a request failed or its status was not 200")
    return taken


def _measure_memory(process: int) -> float:
    """Returns the resident memory of a server and its children in MB."""
    parent = psutil.Process(process)
    processes = [parent, *parent.children(recursive=True)]
    return float(sum(one.memory_info().rss for one in processes) / 1e6)


def _soak(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, _ = _make_models(Path(folder))
        content = _make_request()
        with serve_model(ours) as (address, process):
            while not _ask(address, content):
                time.sleep(0.1)
            answers = 0
            for _ in range(10):
                taken = _load(address, content, 8, seconds / 10)
                answers += len(taken)
                print(
                    f"{answers} responses, all 200; p99 {1000 * np.quantile(taken, 0.99):.0f} ms; "
                    f"{_measure_memory(process):.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    _soak(float(sys.argv[2]))
