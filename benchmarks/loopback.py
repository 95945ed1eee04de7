"""Ports of this machine, and clusters on them; for benchmarks and tests."""

import contextlib
import json
import socket


def find_ports(count: int) -> list[int]:
    """Gives as many free ports of loopback, each another."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [int(free.getsockname()[1]) for free in sockets]


def make_cluster(number: int, ports: list[int]) -> str:
    """Says in `TF_CONFIG`'s words who trains together: a process a port, and this one's number."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": number}
    return json.dumps({"cluster": {"worker": workers}, "task": task})
