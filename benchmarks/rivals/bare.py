"""FastAPI and uvicorn: `python -m benchmarks.rivals.bare PORT`."""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.rivals.network import RivalNetwork

app = FastAPI()
_network = RivalNetwork()


class _Request(BaseModel):
    images: list[str]


@app.post("/invocations")
def answer(request: _Request) -> list[dict[str, list[float]]]:
    """Answers a request in a thread of FastAPI."""
    return _network.answer(request.images)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
