"""Answers requests that would cost much memory, and prints what each costs.

`python hostile_bodies.py MODEL` prints one JSON object: `{name: [megabytes of the body, megabytes
of memory, message]}`.
"""

import base64
import io
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import mlflow
from PIL import Image

from person_attributes.serving.classifier import ServedClassifier
from person_attributes.serving.requests import Limits, RefusedRequest

LIMITS = Limits(rows=256, request_megabytes=128, image_megabytes=16, image_megapixels=25)


def make_bodies() -> dict[str, bytes]:
    """Makes a body of each kind."""
    large = _encode(Image.new("1", (8000, 8000)))
    short = [{"image": "AAAA"}] * 7
    return {
        "keys of their own": _dump(dataframe_records=[{f"k{n}": 1} for n in range(20_000)]),
        "empty rows": b'{"dataframe_records": [' + b"{}," * 2_000_000 + b"{}]}",
        "empty rows of a table": _dump_table("[]", 2_000_000),
        "tiny rows": b'{"inputs": {"image": [' + b'"",' * 2_000_000 + b'""]}}',
        "tiny rows of a table": _dump_table('["a"]', 1_000_000),
        "many heads": _dump(instances=short, params={"heads": ["age"] * 100_000}),
        "one long string": _dump(instances=[*short, {"image": "A" * 4_000_000}]),
        "one long string of another script": _dump(instances=[*short, {"image": "\u4e00" * 10**6}]),
        "nested arrays": b'{"instances": [{"image": ' + b"[" * 3_000_000,
        "one string": b'"' + b"A" * 4_000_000 + b'"',
        "64 megapixels": _dump(inputs=[large]),
    }


def _dump(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def _dump_table(row: str, rows: int) -> bytes:
    data = ",".join([row] * rows)
    return f'{{"dataframe_split": {{"columns": ["image"], "data": [{data}]}}}}'.encode()


def _encode(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _measure(function: Callable[[], str]) -> tuple[float, str]:
    """Returns by how many megabytes the memory of this process grows, and the result."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _read_status("VmRSS")
    result = function()
    return (_read_status("VmHWM") - before) / 1e6, result


def _read_status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def _ask(classifier: ServedClassifier, body: bytes) -> str:
    try:
        return classifier.answer_body(body, "application/json", lambda: False).decode()
    except RefusedRequest as error:
        return error.message


def _ask_at_once(classifier: ServedClassifier, body: bytes, clients: int) -> str:
    threads = [threading.Thread(target=_ask, args=(classifier, body)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _ask(classifier, body)


def _ask_repeatedly(classifier: ServedClassifier, bodies: list[bytes], rounds: int) -> str:
    answers = [_ask(classifier, body) for _ in range(rounds) for body in bodies]
    return answers[0]


def main(model: str) -> None:
    """Prints the costs."""
    config = {"limits": asdict(LIMITS)}
    classifier = mlflow.pyfunc.load_model(model, model_config=config).unwrap_python_model()
    photograph = Image.effect_noise((200, 100), 64)
    good = _dump(inputs=[_encode(photograph)] * 2)
    bodies = make_bodies()
    large = _dump(inputs=[_encode(Image.new("RGB", (5000, 4900)))])
    mixed = [good, *bodies.values()]
    calls: dict[str, tuple[bytes, Callable[[], str]]] = {
        **{name: (body, partial(_ask, classifier, body)) for name, body in bodies.items()},
        "a large image": (large, partial(_ask, classifier, large)),
        "large images at once": (large, partial(_ask_at_once, classifier, large, 4)),
        "the first requests": (good, partial(_ask_repeatedly, classifier, mixed, 5)),
        "more requests": (good, partial(_ask_repeatedly, classifier, mixed, 20)),
    }
    _ask(classifier, good)
    costs = {name: (len(body) / 1e6, *_measure(call)) for name, (body, call) in calls.items()}
    print(json.dumps(costs))


if __name__ == "__main__":
    main(sys.argv[1])
