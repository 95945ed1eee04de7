"""The command line: a table of commands and a dispatcher.

An error that the user can fix is printed in one line, with exit code 2.
"""

import argparse
import errno
import importlib
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

from person_attributes.config import Params, read_params
from person_attributes.errors import ParamsError, PersonAttributesError
from person_attributes.runtime.keras_import import import_keras
from person_attributes.server.settings import list_options
from person_attributes.tracking.variables import refuse_invalid_variables
from person_attributes.workspace import Workspace

_SIGPIPE = 13
"""`signal.SIGPIPE`, which Windows lacks."""


@dataclass(frozen=True)
class Argument:
    """An argument of a command, with the options of `argparse.add_argument`."""

    name: str
    help: str
    default: Any = None
    type: Any = None
    action: str = "store"


@dataclass(frozen=True)
class Command:
    """A command; the module of the same name implements it.

    Attributes:
        help: A one-line description.
        arguments: Passed to its function by name.
        is_stage: Whether it is a stage of `dvc.yaml`: its module is in `pipeline`, not `commands`.
        needs_keras: Whether a command that is not a stage always imports Keras.
        needs_params: Whether the command reads `params.yaml`.
    """

    help: str
    arguments: tuple[Argument, ...] = ()
    is_stage: bool = False
    needs_keras: bool = False
    needs_params: bool = True


_PHASE = Argument("phase", "a key of `phases` in params.yaml")
_MODEL = Argument("--model", "URI of the model (default: the champion)", "")
_EVALUATION = "id of a run, models:/NAME@ALIAS, a git revision, or workspace"

COMMANDS = {
    "init": Command(
        "propose a params.yaml for new data",
        (
            Argument("data", "a folder or .zip with a table and images, or a table beside images"),
            Argument("--annotations", "the table in the folder or .zip, if it has several", ""),
            Argument(
                "--recipe",
                "the file whose network and training are used (default: recipes/sample.yaml)",
                "recipes/sample.yaml",
            ),
            Argument(
                "--output", "the file to write (default: params.yaml)", Path("params.yaml"), Path
            ),
        ),
        needs_params=False,
    ),
    "check": Command("check params.yaml and the data source"),
    "sample": Command("draw the images and labels of the sample data", is_stage=True),
    "ingest": Command("check annotations and images", is_stage=True),
    "encode": Command("write the one-hot columns and the label map", is_stage=True),
    "split": Command(
        "draw the rows of each part, without near-duplicates across parts", is_stage=True
    ),
    "pack": Command(
        "decode and resize all images into one array",
        (Argument("image_size", "one of data.image_sizes in params.yaml"),),
        is_stage=True,
    ),
    "inspect": Command("write the data page", is_stage=True),
    "initialize": Command("write the initial weights", is_stage=True),
    "train": Command("train one phase", (_PHASE,), is_stage=True),
    "lr-find": Command("suggest a learning rate for one phase", (_PHASE,), needs_keras=True),
    "sweep": Command("search hyperparameters with Optuna", needs_keras=True),
    "select": Command(
        "copy the weights and learning curves of the evaluated phases", is_stage=True
    ),
    "evaluate": Command("score the validation and test rows, and write the report", is_stage=True),
    "register": Command("export, check and register the model", is_stage=True),
    "pretrained": Command("register the published network under the alias pretrained"),
    "models": Command("list the registered versions and the champion"),
    "promote": Command(
        "make a version the champion if the gate allows it",
        (
            Argument("version", "its number; see the command models"),
            Argument(
                "--because", "set the alias whatever the gate decides; the reason is stored", ""
            ),
        ),
    ),
    "rollback": Command("make the previous champion the champion again"),
    "compare": Command(
        "compare two evaluations on the same rows",
        (Argument("first", _EVALUATION), Argument("second", _EVALUATION)),
    ),
    "join": Command(
        "train as one of several hosts, together with the first host",
        (Argument("--phase", "a single phase (default: every phase of the first host)", ""),),
        needs_keras=True,
    ),
    "predict": Command(
        "label images with a registered model",
        (
            Argument("images", "an image, a folder, a pattern, a table of paths, or a .zip"),
            Argument("output", "the .csv or .parquet file to write", type=Path),
            _MODEL,
            Argument(
                "--column",
                "the column of paths in a table, or a pattern: images/{id}.jpg (default: image)",
                "image",
            ),
            Argument("--heads", "the heads to predict, such as age,gender (default: all)", ""),
            Argument("--top-k", "also write the most probable classes, up to this number", 0, int),
            Argument(
                "--probabilities",
                "also write the probability of each class",
                default=False,
                action="store_true",
            ),
        ),
    ),
    "serve": Command(
        "serve a registered model",
        (
            _MODEL,
            *(
                Argument(option.flag, option.help, option.default, option.type)
                for option in list_options()
            ),
        ),
    ),
    "demo": Command(
        "serve a local page to try registered models on photographs",
        (
            Argument(
                "--model",
                "URI of a model; repeat it to compare two (default: the champion)",
                action="append",
            ),
            Argument("--corrections", "folder to keep corrected photographs in", type=Path),
            Argument("--port", "port (default: the first free one from 7860)", type=int),
        ),
    ),
    "summarize": Command("print the last evaluation, the champion and the next commands"),
}
"""All commands, in the order of the help. Each has a module or package of the same name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0 on success, 2 for an error that the user can fix, or 128 plus the number of a signal.

    Raises:
        KeyboardInterrupt: After Ctrl-C, or with the number of the signal after SIGTERM.
    """
    _replace_unprintable()
    options = vars(_make_parser().parse_args(arguments))
    workspace = Workspace(Path.cwd())
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _quieten_libraries()
        refuse_invalid_variables()
        _run(options.pop("command"), options, workspace)
        print(end="", flush=True)
    except PersonAttributesError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + _SIGPIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        advice = _advise(error, workspace)
        print(f"{where}{error.strerror or error}. {advice}".rstrip(), file=sys.stderr)
        return 2
    return 0


class _ShowVersion(argparse.Action):
    """Prints the version of the installed package and exits.

    argparse's own action needs the version when the parser is built, even if it is not printed.
    """

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        try:
            print(f"person-attributes {version('person-attributes')}")
        except PackageNotFoundError:
            parser.exit(2, "--version: person-attributes is not installed. Run make env.\n")
        parser.exit()


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "person-attributes", description="Run it in the folder of params.yaml."
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
            options = {key: value for key, value in asdict(argument).items() if value is not None}
            added.add_argument(options.pop("name"), **options)
    return parser


def _run(name: str, arguments: dict[str, Any], workspace: Workspace) -> None:
    """Imports the module of a command and calls its function."""
    command = COMMANDS[name]
    if command.needs_params:
        params = read_params(workspace.params)
        _require_known_items(params, arguments)
        if command.is_stage:
            from person_attributes.pipeline.execution import run_stage

            run_stage(name, workspace, params, next(iter(arguments.values()), None))
            return
        arguments = {"params": params, **arguments}
    if command.needs_keras:
        import_keras()
    name = name.replace("-", "_")
    module = importlib.import_module(f"person_attributes.commands.{name}")
    getattr(module, name)(workspace, **arguments)


def _require_known_items(params: Params, arguments: dict[str, Any]) -> None:
    """Refuses a phase or an image size that is not in `params.yaml`."""
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
    """Returns advice on an error of the operating system; empty if there is none."""
    if error.errno == errno.ENOSPC:
        return "Free disk space and run the command again; earlier outputs are kept."
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return "Name another path."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Change its permissions, or name another path."
    if error.errno == errno.ENOENT and isinstance(error.filename, str):
        if workspace.is_written_by_stages(Path(error.filename)):
            return "Run dvc repro, which writes missing outputs."
        return "Correct the path, or create its folder."
    return ""


def _replace_unprintable() -> None:
    """Prints names that the encoding of the terminal lacks with escapes, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Treats SIGTERM like Ctrl-C: MLflow runs are closed and temporary files removed."""
    raise KeyboardInterrupt(number)


def _quieten_libraries() -> None:
    """Silences the messages of libraries: stages print what matters."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Report an unreachable server after seconds, not minutes. Training does not wait for it.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
    # tf2onnx and MLflow access names that NumPy has removed, which warns.
    warnings.filterwarnings("ignore", category=FutureWarning)
    # JAX warns about forked processes. The workers use NumPy and OpenCV only, never JAX.
    warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
