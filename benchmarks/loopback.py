"""Free ports and clusters on loopback, for benchmarks and tests."""

import contextlib
import json
import socket


def find_ports(count: int) -> list[int]:
    """Finds distinct free ports on loopback."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [int(free.getsockname()[1]) for free in sockets]


def make_cluster(number: int, ports: list[int]) -> str:
    """Makes a value of `TF_CONFIG`, with one worker per port.

    Args:
        number: The index of this worker.
        ports: The ports of all workers.
    """
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": number}
    return json.dumps({"cluster": {"worker": workers}, "task": task})
