"""Fuzzes a served model over HTTP: `python -m fuzzing.endpoint MODEL SECONDS`.

Whatever comes, the server answers 200 or 4xx with a short reason: no stack trace, nothing of what
was sent, and it lives on. Requests are good ones with bytes changed, and JSON of the right words in
the wrong places.
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
_TYPES = ("application/json", "text/csv", "application/vnd.apache.parquet", "text/plain")
_WORDS = (
    "image", "inputs", "instances", "dataframe_split", "dataframe_records", "columns", "data",
    "params", "heads", "top_k", "on_error", "answer", "messages", "prompt", "index",
)  # fmt: skip
_MARK = "c2VjcmV0IQ"
"""Put into every request, to be found in no answer."""


def main() -> int:
    """Sends requests until the time is over; 1 where an answer was not as it has to be."""
    model, seconds = sys.argv[1:]
    with serve_model(model) as (address, _):
        while not _is_well(address):
            time.sleep(0.2)
        return _fuzz(address, float(seconds))


def _fuzz(address: str, seconds: float) -> int:
    chance, statuses = random.Random(1), Counter[int]()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        body, content_type = _draw_request(chance)
        status, answer = _ask(address, body, content_type)
        statuses[status] += 1
        if fault := _find_fault(status, answer):
            print(f"{fault}: {content_type} {body[:2000]!r}\n{status} {answer[:2000]!r}")
            return 1
    print(f"{statuses.total()} requests; {dict(statuses)}")
    return 0


def _is_well(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health"):
        return True
    return False


def _draw_request(chance: random.Random) -> tuple[bytes, str]:
    content_type = _TYPES[0] if chance.random() < 0.9 else chance.choice(_TYPES)
    if chance.random() < 0.4:
        return json.dumps(_draw_json(chance, 4)).encode(), content_type
    rows = [_draw_image(chance) for _ in range(chance.randrange(4))]
    forms: list[Any] = [
        {"dataframe_split": {"columns": ["image"], "data": [[row] for row in rows]}},
        {"dataframe_records": [{"image": row} for row in rows]},
        {"instances": [{"image": row} for row in rows]},
        {"inputs": {"image": rows}},
    ]
    request = {**chance.choice(forms), "params": {"on_error": chance.choice(["fail", "answer"])}}
    if chance.random() < 0.3:
        request["params"][chance.choice(_WORDS)] = _draw_json(chance, 2)
    body = bytearray(json.dumps(request).encode())
    for _ in range(chance.choice([0, 0, 1, 3])):
        place = chance.randrange(len(body))
        body[place : place + chance.randrange(8)] = chance.randbytes(chance.randrange(8))
    return bytes(body), content_type


def _draw_json(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(8 if depth else 6)
    if kind < 3:
        return chance.choice([None, True, -1, 1e308, float("nan"), "", _MARK, *_WORDS])
    if kind < 6:
        return _draw_image(chance)
    if kind == 6:
        return [_draw_json(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {
        chance.choice([*_WORDS, _MARK]): _draw_json(chance, depth - 1)
        for _ in range(chance.randrange(4))
    }


def _draw_image(chance: random.Random) -> str:
    """Encodes a small image, mostly broken somewhere."""
    buffer = io.BytesIO()
    size = (chance.randrange(1, 90), chance.randrange(1, 90))
    image = Image.new(chance.choice(["RGB", "L", "1", "P"]), size)
    formats = ["PNG", "JPEG", "WEBP", "BMP", "GIF"] if image.mode in ("RGB", "L") else ["PNG"]
    image.save(buffer, chance.choice(formats))
    content = bytearray(buffer.getvalue())
    for _ in range(chance.choice([0, 1, 5])):
        content[chance.randrange(len(content))] = chance.randrange(256)
    if chance.random() < 0.2:
        del content[chance.randrange(len(content)) :]
    prefix = chance.choice(
        ["", "", "data:image/png;base64,", "data:,", "file:///", "http://127.0.0.1:9/"]
    )
    return prefix + base64.b64encode(bytes(content)).decode() + chance.choice(["", "", _MARK])


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
        said = json.loads(answer, parse_constant=_refuse)
        # MLflow answers what looks like a chat, `messages` and such, without a key around it.
        predictions = said["predictions"] if isinstance(said, dict) else said
        return "" if isinstance(predictions, list) else "no list of predictions"
    if not 400 <= status < 500:
        return "neither an answer nor a refusal"
    if len(answer) > _LONGEST_REASON:
        return "a long reason"
    if "Traceback" in answer or _MARK in answer:
        return "a stack trace, or what was sent"
    return ""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


if __name__ == "__main__":
    sys.exit(main())
