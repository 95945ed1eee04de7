"""One parser, one subcommand a stage; what a user can mend is told in a line and exit code 2."""

import argparse
import errno
import logging
import os
import signal
import sys
import warnings
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from person_attributes.config import Params, read_params
from person_attributes.errors import ParamsError, PersonAttributesError
from person_attributes.keras_import import import_keras
from person_attributes.workspace import Workspace

_COMMANDS = {
    "check": "check params.yaml and the data source",
    "sample": "draw the embedded sample",
    "ingest": "check annotations and images",
    "encode": "make the one-hot columns and the label map",
    "split": "draw the rows of each part, and look for near-duplicates across them",
    "pack": "decode all images into an array of one size",
    "inspect": "show the data on one page",
    "initialize": "write the first random weights",
    "train": "train one phase",
    "lr-find": "look for a learning rate of one phase",
    "sweep": "search parameters, trial after trial",
    "evaluate": "score the validation rows and write the report",
    "register": "export, check and register the model",
    "models": "list the registered versions: who is champion, since when and why",
    "move-tracking": "copy mlflow.db into an empty server",
    "rollback": "make the champion before the present one champion again",
    "summarize": "print the last evaluation and the next commands",
}

_STAGES = (
    "sample",
    "ingest",
    "encode",
    "split",
    "pack",
    "inspect",
    "initialize",
    "train",
    "evaluate",
    "register",
)

_OF_A_PHASE = ("train", "lr-find")

_NEEDS_KERAS = ("initialize", "train", "join", "lr-find", "sweep", "evaluate")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Returns:
        0, 2 where the user has something to mend, or 128 and the number of a signal.
    """
    options = _parse(arguments)
    _quieten_libraries()
    workspace = Workspace(Path.cwd())
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(options, workspace)
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


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "person-attributes", description="Run from the folder that holds params.yaml."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == "pack":
            command.add_argument("image_size", help="one of data.image_sizes")
        if name in _OF_A_PHASE:
            command.add_argument("phase", help="a key of `phases` in params.yaml")
    promote = commands.add_parser("promote", help="make a version champion where the gate holds")
    promote.add_argument("version", help="its number; models lists them")
    promote.add_argument("--because", default="", help="a reason that overrules the gate")
    compare = commands.add_parser("compare", help="compare two evaluations on the same rows")
    for which in ("first", "second"):
        compare.add_argument(
            which, help="id of a run, models:/NAME@ALIAS, a git revision, or workspace"
        )
    join = commands.add_parser("join", help="help the first of several hosts to train")
    join.add_argument("--phase", default="", help="one phase; whatever is announced without it")
    predict = commands.add_parser("predict", help="label images with a registered model")
    predict.add_argument(
        "images", help="an image, a folder, a pattern, a CSV file of paths, or a .zip"
    )
    predict.add_argument("output", type=Path, help="the .csv or .parquet file to write")
    predict.add_argument("--model", default="", help="the champion where none is named")
    predict.add_argument("--column", default="image", help="of paths, in a CSV file")
    demo = commands.add_parser("demo", help="open a page to try a registered model on a photograph")
    demo.add_argument("--model", default="", help="the champion where none is named")
    demo.add_argument("--port", type=int, help="the first free one from 7860 where none is named")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, workspace: Workspace) -> None:
    from person_attributes import stages

    params = read_params(workspace.params)
    if options.command == "predict":
        from person_attributes.scoring import Scoring, score_images

        model = options.model or stages.require_champion(workspace, params)
        scoring = Scoring(options.images, options.column, options.output, model)
        score_images(scoring, workspace, params.data.limits, params.evaluation.batch_size)
        return
    if options.command == "demo":
        from person_attributes.demo.page import open_demo

        model = options.model or stages.require_champion(workspace, params)
        open_demo(workspace, params, model, options.port)
        return
    if options.command == "compare":
        from person_attributes.comparing import compare

        print(compare(workspace, params, options.first, options.second))
        return
    if options.command == "move-tracking":
        from person_attributes.tracking.moving import move_tracking

        print(move_tracking(workspace))
        return
    if options.command == "promote":
        stages.promote(workspace, params, options.version, options.because)
        return
    if options.command in _STAGES:
        _run_stage(options, workspace, params)
        return
    if options.command in _NEEDS_KERAS:
        import_keras()
    if options.command == "join":
        stages.join(workspace, params, options.phase and _require_phase(params, options.phase))
        return
    if options.command == "sweep":
        from person_attributes.sweeping import sweep

        sweep(workspace, params)
        return
    command = getattr(stages, options.command.replace("-", "_"))
    if options.command == "lr-find":
        command(workspace, params, _require_phase(params, options.phase))
    else:
        command(workspace, params)


def _run_stage(options: argparse.Namespace, workspace: Workspace, params: Params) -> None:
    """Runs a stage, or restores what it would write, alone in this folder."""
    from person_attributes import stages
    from person_attributes.stages.run_cache import RunCache
    from person_attributes.stages.wiring import hold_stage

    compute = partial(getattr(stages, options.command), workspace, params)
    name = options.command
    if name == "train":
        compute = partial(compute, _require_phase(params, options.phase))
        name = f"train@{options.phase}"
    if name == "pack":
        compute = partial(compute, _require_image_size(params, options.image_size))
        name = f"pack@{options.image_size}"
    with hold_stage(workspace, name):
        run_cache = RunCache(workspace, name)
        if run_cache.restore():
            return
        if options.command in _NEEDS_KERAS:
            import_keras()
        if options.command == "train":
            compute(restore=run_cache.restore, keep=run_cache.save)
        else:
            compute()
            run_cache.save()


def _require_phase(params: Params, phase: str) -> str:
    return _require_known("phase", phase, params.phases, "phases")


def _require_image_size(params: Params, image_size: str) -> str:
    sizes = [str(size) for size in params.data.image_sizes]
    return _require_known("image size", image_size, sizes, "data.image_sizes")


def _require_known(what: str, received: str, known: Collection[str], key: str) -> str:
    if received not in known:
        raise ParamsError(
            f"unknown {what} {received!r}. Expected one of {', '.join(known)}. "
            f"Name one, or add it to {key} in params.yaml."
        )
    return received


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
