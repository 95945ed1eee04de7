"""Fuzzes a served model over HTTP: `python -m fuzzing.endpoint MODEL SECONDS`.

The server must answer every request with 200, or with 4xx and a short reason, without a stack trace
and without any content of the request. It must keep running. The requests are valid ones with
mutated bytes, and random JSON made of valid keys.
"""

import base64
import contextlib
import http.client
import io
import json
import random
import sys
import time
import urllib.request
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from benchmarks.serving import serve_model
from PIL import Image

_LONGEST_REASON = 500
_TYPES = ("application/json", "text/csv", "application/vnd.apache.parquet", "image/png")
_WORDS = (
    "image", "inputs", "instances", "dataframe_split", "dataframe_records", "columns", "data",
    "params", "heads", "top_k", "on_error", "answer", "messages", "prompt", "index",
)  # fmt: skip
_MARK = "c2VjcmV0IQ"
"""Part of every request. No answer may contain it."""


def main() -> int:
    """Sends requests until the time is over.

    Returns:
        0, or 1 after an invalid answer.
    """
    model, seconds = sys.argv[1:]
    with serve_model(model) as (address, _):
        while not _is_healthy(address):
            time.sleep(0.2)
        return _fuzz(address, float(seconds))


def _fuzz(address: str, seconds: float) -> int:
    generator, statuses = random.Random(1), Counter[int]()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        body, content_type = _draw_request(generator)
        status, answer = _ask(address, body, content_type)
        statuses[status] += 1
        if fault := _find_fault(status, answer):
            print(f"{fault}: {content_type} {body[:2000]!r}\n{status} {answer[:2000]!r}")
            return 1
    print(f"{statuses.total()} requests; {dict(statuses)}")
    return 0


def _is_healthy(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health"):
        return True
    return False


def _draw_request(generator: random.Random) -> tuple[bytes, str]:
    content_type = _TYPES[0] if generator.random() < 0.9 else generator.choice(_TYPES)
    if generator.random() < 0.4:
        return json.dumps(_draw_json(generator, 4)).encode(), content_type
    rows = [_draw_image(generator) for _ in range(generator.randrange(4))]
    forms: list[Any] = [
        {"dataframe_split": {"columns": ["image"], "data": [[row] for row in rows]}},
        {"dataframe_records": [{"image": row} for row in rows]},
        {"instances": [{"image": row} for row in rows]},
        {"inputs": {"image": rows}},
    ]
    request = {
        **generator.choice(forms),
        "params": {"on_error": generator.choice(["fail", "answer"])},
    }
    if generator.random() < 0.3:
        request["params"][generator.choice(_WORDS)] = _draw_json(generator, 2)
    body = bytearray(json.dumps(request).encode())
    for _ in range(generator.choice([0, 0, 1, 3])):
        place = generator.randrange(len(body))
        body[place : place + generator.randrange(8)] = generator.randbytes(generator.randrange(8))
    return bytes(body), content_type


def _draw_json(generator: random.Random, depth: int) -> Any:
    kind = generator.randrange(8 if depth else 6)
    if kind < 3:
        return generator.choice([None, True, -1, 1e308, float("nan"), "", _MARK, *_WORDS])
    if kind < 6:
        return _draw_image(generator)
    if kind == 6:
        return [_draw_json(generator, depth - 1) for _ in range(generator.randrange(4))]
    return {
        generator.choice([*_WORDS, _MARK]): _draw_json(generator, depth - 1)
        for _ in range(generator.randrange(4))
    }


def _draw_image(generator: random.Random) -> str:
    """Encodes a small image, in most cases with errors."""
    buffer = io.BytesIO()
    size = (generator.randrange(1, 90), generator.randrange(1, 90))
    image = Image.new(generator.choice(["RGB", "L", "1", "P"]), size)
    formats = ["PNG", "JPEG", "WEBP", "BMP", "GIF"] if image.mode in ("RGB", "L") else ["PNG"]
    image.save(buffer, generator.choice(formats))
    content = bytearray(buffer.getvalue())
    for _ in range(generator.choice([0, 1, 5])):
        content[generator.randrange(len(content))] = generator.randrange(256)
    if generator.random() < 0.2:
        del content[generator.randrange(len(content)) :]
    prefix = generator.choice(
        ["", "", "data:image/png;base64,", "data:,", "file:///", "http://127.0.0.1:9/"]
    )
    return prefix + base64.b64encode(bytes(content)).decode() + generator.choice(["", "", _MARK])


def _ask(address: str, body: bytes, content_type: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": content_type})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def _find_fault(status: int, answer: str) -> str:
    if status == 200:
        content = json.loads(answer, parse_constant=_refuse)
        return "" if isinstance(content["predictions"], list) else "no list of predictions"
    if not 400 <= status < 500:
        return f"status {status}"
    if len(answer) > _LONGEST_REASON:
        return "a long reason"
    if "Traceback" in answer or _MARK in answer:
        return "a stack trace or content of the request"
    return ""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")


if __name__ == "__main__":
    sys.exit(main())
