"""Our two servers against a bare FastAPI server, LitServe and BentoML, with one network.

`python -m benchmarks.serving soak SECONDS` keeps a server at full load and prints its memory.
"""

import base64
import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image

from benchmarks.comparison import Comparison
from benchmarks.loopback import find_ports
from benchmarks.people import draw_people, register_network

_ROOT = Path(__file__).parent.parent

_RIVALS = {
    "bare": ("benchmarks.rivals.bare", "{port}"),
    "LitServe": ("benchmarks.rivals.litserve_server", "{port}"),
    "BentoML": ("bentoml", "serve", "benchmarks.rivals.bentoml_server:Service", "--port", "{port}"),
}
"""The modules and arguments of the rivals' servers."""

_PACKAGES = ("numpy", "onnxruntime", "pillow", "fastapi", "uvicorn")
"""Packages of the rivals in our versions, beside `bentoml` and `litserve`."""

_GOAL = 0.8
"""Smallest ratio to the bare server: 1 / 1.25."""

_SECONDS = 10.0
"""Duration of each load."""


@dataclass(frozen=True)
class _Load:
    """Requests of several clients at once, each one sequentially on one connection.

    Attributes:
        photograph: `s`: drawn people of 224 px, or `l`: JPEGs of 2000 x 3000.
        images: The number of images in a request.
        clients: The number of clients.
    """

    photograph: str
    images: int
    clients: int

    def __str__(self) -> str:
        return f"{self.photograph} x {self.images}, {self.clients} clients"


_LOADS = (
    *(_Load("s", 1, clients) for clients in (1, 8, 64)),
    *(_Load("l", 1, clients) for clients in (1, 8)),
    *(_Load("s", images, 1) for images in (64, 256)),
    _Load("l", 64, 1),
)


@dataclass(frozen=True)
class _Measured:
    """Measurements of a server.

    Attributes:
        start: Seconds to the first response.
        megabytes: Largest memory after a load.
        latencies: Seconds of each request of a load.
        rates: Images per second of a load.
    """

    start: float
    megabytes: float
    latencies: Mapping[_Load, npt.NDArray[np.float64]]
    rates: Mapping[_Load, float]


def measure() -> Iterator[Comparison]:
    """Compares latency, throughput, start and memory with those of each rival."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _register(folder)
        photographs = {"s": _read_drawing(), "l": _make_photograph()}
        python = _make_environment(folder / "rivals")
        if python is None:
            return
        rivals = {
            rival: _measure(
                _serve([str(python), "-m", *command], folder / "n.onnx"), "images", photographs
            )
            for rival, command in _RIVALS.items()
        }
        for server, serve in _OURS.items():
            ours = _measure(serve(model), "inputs", photographs)
            for rival, measured in rivals.items():
                yield from _compare(f"{server}, {rival}", ours, measured, rival == "bare")


def _register(folder: Path) -> Path:
    """Registers the network of the sample with random weights; returns its files."""
    import mlflow

    from person_attributes.config import read_params
    from person_attributes.labels import LabelMap
    from person_attributes.modeling.classifier import Normalization, build_classifier

    params = read_params(_ROOT / "recipes" / "sample.yaml")
    label_map = LabelMap.declare(params.heads)
    size = params.evaluated_image_size
    normalization = Normalization([128.0] * 3, [64.0] * 3)
    network = build_classifier(size, label_map.class_counts, params.model, normalization)
    weights = folder / "network.keras"
    network.save(weights)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    artifacts = (folder / "mlruns").as_uri()  # otherwise in the current folder
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("serving", artifacts))
    number = register_network(network, label_map, weights, "ours", folder)
    served = folder / "served"  # MLflow copies the whole folder of a model when it serves it
    served.mkdir()
    return Path(mlflow.artifacts.download_artifacts(f"models:/ours/{number}", dst_path=str(served)))


def _make_environment(folder: Path) -> Path | None:
    """Creates the environment of the rivals; returns its Python, or None without a network."""
    python = folder / "bin" / "python"
    uv = str(Path(sys.executable).with_name("uv"))
    packages = [f"{package}=={version(package)}" for package in _PACKAGES]
    try:
        subprocess.run([uv, "venv", "-q", "-p", sys.executable, folder], check=True)
        install = [uv, "pip", "install", "-q", "-p", str(python), "bentoml", "litserve"]
        subprocess.run([*install, *packages], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"serving: rivals skipped, their packages cannot be installed: {error}")
        return None
    return python


def _read_drawing() -> bytes:
    people = draw_people(16)
    path: Path = people.folder / str(people.table["image_path"][0])
    return path.read_bytes()


def _make_photograph() -> bytes:
    """Enlarges a drawing to 2000 x 3000, with the noise of a camera."""
    image = Image.open(io.BytesIO(_read_drawing())).convert("RGB").resize((2000, 3000))
    noise = Image.effect_noise(image.size, 40).convert("RGB")
    buffer = io.BytesIO()
    Image.blend(image, noise, 0.2).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@contextlib.contextmanager
def serve_model(model: Path | str) -> Iterator[tuple[str, int]]:
    """Serves a model with MLflow on a free port; yields its URL and its process id."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "-p", "{port}"]
    with _serve([*command, "--env-manager", "local"]) as server:
        yield server


@contextlib.contextmanager
def _serve_for_operators(model: Path) -> Iterator[tuple[str, int]]:
    """Serves a model with `person-attributes serve`; yields its URL and its process id."""
    command = ["-m", "person_attributes", "serve", "--model", str(model), "--port", "{port}"]
    with _serve([sys.executable, *command]) as server:
        yield server


_OURS = {"mlflow": serve_model, "serve": _serve_for_operators}
"""`mlflow models serve` and `person-attributes serve`."""


@contextlib.contextmanager
def _serve(command: Sequence[str], network: Path | None = None) -> Iterator[tuple[str, int]]:
    """Runs a server on a free port, a rival with a network; yields its URL and process id."""
    (port,) = find_ports(1)
    path = "" if network is None else os.pathsep.join([str(_ROOT), str(_ROOT / "src")])
    process = subprocess.Popen(
        [part.format(port=port) for part in command],
        env=os.environ
        | {"PYTHONPATH": path, "BENCHMARK_NETWORK": str(network), "BENTOML_DO_NOT_TRACK": "True"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _measure(
    server: contextlib.AbstractContextManager[tuple[str, int]],
    field: str,
    photographs: Mapping[str, bytes],
) -> _Measured:
    """Puts all loads on a server, whose requests have the images in a field."""
    latencies, rates, megabytes = {}, {}, list[float]()
    began = time.perf_counter()
    with server as (address, process):
        _wait(address, process, _make_request(field, photographs["s"], 1))
        start = time.perf_counter() - began
        for load in _LOADS:
            content = _make_request(field, photographs[load.photograph], load.images)
            began = time.perf_counter()
            latencies[load] = np.array(_ask_repeatedly(address, content, load.clients, _SECONDS))
            seconds = time.perf_counter() - began
            rates[load] = load.images * len(latencies[load]) / seconds
            megabytes.append(_measure_memory(process))
    return _Measured(start, max(megabytes), latencies, rates)


def _make_request(field: str, image: bytes, images: int) -> bytes:
    return json.dumps({field: [base64.b64encode(image).decode()] * images}).encode()


def _wait(address: str, process: int, content: bytes) -> None:
    while psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
        with contextlib.suppress(OSError), _connect(address) as connection:
            if _ask(connection, content):
                return
        time.sleep(0.1)
    raise RuntimeError(f"{address}: the server ended before its first response")


def _connect(address: str) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=120))


def _ask(connection: http.client.HTTPConnection, content: bytes) -> bool:
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/invocations", content, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status == 200


def _ask_repeatedly(address: str, content: bytes, clients: int, seconds: float) -> list[float]:
    """Sends requests from several clients; returns all latencies."""
    until, taken, failed = time.perf_counter() + seconds, list[float](), threading.Event()

    def ask() -> None:
        with _connect(address) as connection:
            while (began := time.perf_counter()) < until:
                if not _ask(connection, content):
                    failed.set()
                taken.append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed.is_set():
        raise RuntimeError(f"{address}: the status of a response was not 200")
    return taken


def _measure_memory(process: int) -> float:
    """Returns the memory of a server and its children in MB; shared memory counts once."""
    parent = psutil.Process(process)
    processes = [parent, *parent.children(recursive=True)]
    return float(sum(one.memory_full_info().pss for one in processes) / 1e6)


def _compare(name: str, ours: _Measured, rival: _Measured, has_goal: bool) -> Iterator[Comparison]:
    goal = _GOAL if has_goal else None
    for load in _LOADS:
        for quantile, share in (("p50", 0.5), ("p99", 0.99)):
            mine, other = (
                1e3 * float(np.quantile(one.latencies[load], share)) for one in (ours, rival)
            )
            yield Comparison(f"{name}: {load}, {quantile}", mine, other, "ms", other / mine, None)
        rates = ours.rates[load], rival.rates[load]
        yield Comparison(f"{name}: {load}", *rates, "images/s", rates[0] / rates[1], goal)
    for title, unit, mine, other in (
        ("start to first response", "s", ours.start, rival.start),
        ("memory", "MB", ours.megabytes, rival.megabytes),
    ):
        yield Comparison(f"{name}: {title}", mine, other, unit, other / mine, None)


def _soak(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = _register(Path(folder))
        content = _make_request("inputs", _read_drawing(), 1)
        with serve_model(model) as (address, process):
            _wait(address, process, content)
            answers = 0
            for _ in range(10):
                taken = _ask_repeatedly(address, content, 8, seconds / 10)
                answers += len(taken)
                print(
                    f"{answers} responses, all 200; p99 {1000 * np.quantile(taken, 0.99):.0f} ms; "
                    f"{_measure_memory(process):.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    _soak(float(sys.argv[2]))
