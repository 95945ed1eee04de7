"""A table of commands and one dispatcher; what a user can mend is told in a line, exit code 2."""

import argparse
import errno
import importlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

from person_attributes.config import Params, read_params
from person_attributes.errors import ParamsError, PersonAttributesError
from person_attributes.runtime.keras_import import import_keras
from person_attributes.workspace import Workspace


@dataclass(frozen=True)
class Argument:
    """An argument of a command, as argparse takes it."""

    name: str
    help: str
    default: Any = None
    type: Any = str


@dataclass(frozen=True)
class Command:
    """What the command line knows of a command; the rest is in the module of its name.

    Attributes:
        help: One line.
        arguments: They are handed to its function by their names.
        is_stage: Whether it is a stage of `dvc.yaml`: its module is in `pipeline`, not `commands`.
        needs_keras: Whether a command that is no stage imports Keras in any case.
    """

    help: str
    arguments: tuple[Argument, ...] = ()
    is_stage: bool = False
    needs_keras: bool = False


_PHASE = Argument("phase", "a key of `phases` in params.yaml")
_MODEL = Argument("--model", "the champion where none is named", "")
_EVALUATION = "id of a run, models:/NAME@ALIAS, a git revision, or workspace"

COMMANDS = {
    "check": Command("check params.yaml and the data source"),
    "sample": Command("draw the embedded sample", is_stage=True),
    "ingest": Command("check annotations and images", is_stage=True),
    "encode": Command("make the one-hot columns and the label map", is_stage=True),
    "split": Command(
        "draw the rows of each part, and look for near-duplicates across them", is_stage=True
    ),
    "pack": Command(
        "decode all images into an array of one size",
        (Argument("image_size", "one of data.image_sizes"),),
        is_stage=True,
    ),
    "inspect": Command("show the data on one page", is_stage=True),
    "initialize": Command("write the first random weights", is_stage=True),
    "train": Command("train one phase", (_PHASE,), is_stage=True),
    "lr-find": Command("look for a learning rate of one phase", (_PHASE,), needs_keras=True),
    "sweep": Command("search parameters, trial after trial", needs_keras=True),
    "evaluate": Command("score the validation rows and write the report", is_stage=True),
    "register": Command("export, check and register the model", is_stage=True),
    "pretrained": Command("register the published network under the alias pretrained"),
    "models": Command("list the registered versions: who is champion, since when and why"),
    "promote": Command(
        "make a version champion where the gate holds",
        (
            Argument("version", "its number; models lists them"),
            Argument("--because", "a reason that overrules the gate", ""),
        ),
    ),
    "rollback": Command("make the champion before the present one champion again"),
    "compare": Command(
        "compare two evaluations on the same rows",
        (Argument("first", _EVALUATION), Argument("second", _EVALUATION)),
    ),
    "join": Command(
        "help the first of several hosts to train",
        (Argument("--phase", "one phase; whatever is announced without it", ""),),
        needs_keras=True,
    ),
    "predict": Command(
        "label images with a registered model",
        (
            Argument("images", "an image, a folder, a pattern, a CSV file of paths, or a .zip"),
            Argument("output", "the .csv or .parquet file to write", type=Path),
            _MODEL,
            Argument("--column", "of paths, in a CSV file", "image"),
        ),
    ),
    "demo": Command(
        "open a page to try a registered model on a photograph",
        (_MODEL, Argument("--port", "the first free one from 7860 where none is named", type=int)),
    ),
    "summarize": Command("print the last evaluation and the next commands"),
}
"""In the order of the help; each has a module or package of the same name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0, 2 where the user has something to mend, or 128 and the number of a signal.
    """
    options = vars(_make_parser().parse_args(arguments))
    _quieten_libraries()
    workspace = Workspace(Path.cwd())
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(options.pop("command"), options, workspace)
    except PersonAttributesError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        advice = _advise(error, workspace)
        print(f"{where}{error.strerror or error}. {advice}".rstrip(), file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print("interrupted: nothing was overwritten; run the command again.", file=sys.stderr)
        return 128 + (error.args[0] if error.args else signal.SIGINT)
    return 0


class _ShowVersion(argparse.Action):
    """Prints the version of the installed package and exits; argparse's own needs it earlier."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        try:
            print(f"person-attributes {version('person-attributes')}")
        except PackageNotFoundError:
            parser.exit(2, "--version: person-attributes is not installed. Run make env.\n")
        parser.exit()


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "person-attributes", description="Run from the folder that holds params.yaml."
    )
    parser.add_argument(
        "--version",
        action=_ShowVersion,
        nargs=0,
        default=argparse.SUPPRESS,
        help="show the version and exit",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.help, description=command.help)
        for argument in command.arguments:
            added.add_argument(
                argument.name, help=argument.help, default=argument.default, type=argument.type
            )
    return parser


def _run(name: str, arguments: dict[str, Any], workspace: Workspace) -> None:
    """Imports what the command needs, and no more, and calls it."""
    command, params = COMMANDS[name], read_params(workspace.params)
    _require_known_items(params, arguments)
    if command.is_stage:
        from person_attributes.pipeline.execution import run_stage

        run_stage(name, workspace, params, next(iter(arguments.values()), None))
        return
    if command.needs_keras:
        import_keras()
    name = name.replace("-", "_")
    module = importlib.import_module(f"person_attributes.commands.{name}")
    getattr(module, name)(workspace, params, **arguments)


def _require_known_items(params: Params, arguments: dict[str, Any]) -> None:
    """Refuses a phase or an image size that `params.yaml` does not have."""
    if phase := arguments.get("phase"):
        _require_known("phase", phase, params.phases, "phases")
    if image_size := arguments.get("image_size"):
        sizes = [str(size) for size in params.data.image_sizes]
        _require_known("image size", image_size, sizes, "data.image_sizes")


def _require_known(what: str, received: str, known: Collection[str], key: str) -> None:
    if received not in known:
        raise ParamsError(
            f"unknown {what} {received!r}. Expected one of {', '.join(known)}. "
            f"Name one, or add it to {key} in params.yaml."
        )


def _advise(error: OSError, workspace: Workspace) -> str:
    """Says what to do about an error of the operating system; nothing where that is not known."""
    if error.errno == errno.ENOSPC:
        return "Free some room and run dvc repro; what was made before is kept."
    if error.errno == errno.ENOENT and isinstance(error.filename, str):
        if workspace.is_written_by_stages(Path(error.filename)):
            return "Run dvc repro, which makes what is missing."
        return "Correct the path, or make its folder."
    return ""


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends a command at SIGTERM as at Ctrl-C: runs are closed, temporary files removed."""
    raise KeyboardInterrupt(number)


def _quieten_libraries() -> None:
    """Keeps libraries from talking over the project; what matters is printed by the stages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Seconds instead of minutes until a server that is away is said to be; training waits for none.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # tf2onnx and MLflow look for names that NumPy took away, and warn about it.
    warnings.filterwarnings("ignore", category=FutureWarning)
    # JAX warns of worker processes; ours augment with NumPy and OpenCV and never touch JAX.
    warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
