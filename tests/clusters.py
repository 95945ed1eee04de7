"""What `TF_CONFIG` says to processes on loopback."""

import json
import socket


def make_cluster(number: int, ports: list[int]) -> str:
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": number}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


def find_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    ports = [free.getsockname()[1] for free in sockets]
    for free in sockets:
        free.close()
    return ports
