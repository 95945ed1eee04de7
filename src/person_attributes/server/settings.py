"""The settings of the server: command-line options with their defaults.

They change no answer, so they are not in `params.yaml`. The limits of one request belong to the
model and are stored with it.
"""

import argparse
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any


def _positive_integer(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected an integer of 1 or more. Received: {text}.")
    return int(text)


def _positive_number(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a number above 0. Received: {text}.")


def _port(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"expected 1 to 65535. Received: {text}.")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _option(default: Any, parse: Callable[[str], Any], help_text: str) -> Any:
    return field(default=default, metadata={"type": parse, "help": help_text})


@dataclass(frozen=True)
class ServerSettings:
    """The settings of a server. `docs/operating.md` describes them."""

    host: str = _option("127.0.0.1", str, "address to listen on")
    port: int = _option(5000, _port, "port to listen on")
    workers: int = _option(1, _positive_integer, "processes, each with its own copy of the network")
    max_in_flight: int = _option(
        64, _positive_integer, "requests that a worker reads and answers at a time"
    )
    max_in_flight_megabytes: float = _option(
        256.0, _positive_number, "size of their bodies together, in 10^6 bytes"
    )
    timeout_seconds: float = _option(60.0, _positive_number, "time to read and answer a request")
    stop_seconds: int = _option(
        30, _positive_integer, "time to answer the requests in flight after SIGTERM"
    )
    keep_alive_seconds: int = _option(
        75, _positive_integer, "time that an idle connection stays open"
    )
    allowed_hosts: tuple[str, ...] = _option(
        ("localhost", "127.0.0.1", "[::1]"),
        _names,
        "accepted names in the Host header, separated by commas; * accepts any",
    )
    allowed_origins: tuple[str, ...] = _option(
        (), _names, "origins of web pages that may send requests (CORS), separated by commas"
    )


@dataclass(frozen=True)
class Option:
    """A setting as an option of the command line, for `argparse.add_argument`."""

    flag: str
    help: str
    default: Any
    type: Callable[[str], Any]


def list_options() -> tuple[Option, ...]:
    """Lists all settings as options of the command line."""
    return tuple(
        Option(
            f"--{setting.name.replace('_', '-')}",
            f"{setting.metadata['help']} (default: {_format(setting.default)})",
            setting.default,
            setting.metadata["type"],
        )
        for setting in fields(ServerSettings)
    )


def _format(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(default) or "none"
    return f"{default:g}" if isinstance(default, float) else str(default)
