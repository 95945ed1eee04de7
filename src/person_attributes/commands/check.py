"""The command `check`: reports errors early that would stop `dvc repro`."""

import configparser
import os
import shlex
import subprocess
from pathlib import Path

from person_attributes.config import INITIAL, Params, StartingWeightsParams
from person_attributes.data.source import open_source
from person_attributes.errors import ParamsError, ProjectError, one_line
from person_attributes.git import find_revision
from person_attributes.workspace import Workspace


def check(workspace: Workspace, params: Params) -> None:
    """Checks that DVC can run here, the augmentation policies, the data source and its columns.

    The stage `ingest` checks the rows. The rest of `params.yaml` was checked when it was read.
    """
    from person_attributes.data.annotations import check_columns
    from person_attributes.data.augment import check_policies

    if _uses_git(workspace.root):
        _require_git(workspace.root)
    _require_python(workspace.root)
    _require_place_of_store(workspace)
    _refuse_own_files(workspace, params)
    check_policies(params.augmentation, params.data.image_sizes)
    _describe_warmups(params)
    _require_starting_weights(workspace, params.model.starting_weights)
    source = workspace.root / params.data.source
    if source != workspace.sample:
        check_columns(open_source(source, params.data.limits), params.data, params.heads)
        if _uses_git(workspace.root) and not find_revision(workspace.root, "HEAD").fault:
            _describe_copies(workspace, params.data.source)


def _uses_git(root: Path) -> bool:
    """Returns whether DVC uses git: it does unless `core.no_scm` is set."""
    config = configparser.ConfigParser(interpolation=None)
    files = [root / ".dvc" / "config", root / ".dvc" / "config.local"]
    try:
        config.read(files, encoding="utf-8")
        return not config.getboolean("core", "no_scm", fallback=False)
    except (configparser.Error, ValueError) as error:
        raise ProjectError(
            f"{' or '.join(map(str, files))}: expected the configuration of DVC. Received: "
            f"{one_line(error, 200)}. Correct the file."
        ) from None


def _require_git(root: Path) -> None:
    """Refuses a folder outside of a git repository, as DVC does."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        raise ProjectError(
            f"{root}: expected a git repository, which DVC needs. Received: a folder that is not "
            "in one. Run git init."
        )


def _require_python(root: Path) -> None:
    """Refuses a shell in which `python`, which DVC runs, is not the Python of an environment."""
    try:
        done = subprocess.run(
            ["python", "-m", "person_attributes", "--version"],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        reason = one_line(done.stderr, 200) if done.returncode else ""
    except FileNotFoundError:
        reason = "no such command"
    if reason:
        raise ProjectError(
            "python: expected the Python of the project's environment, which DVC runs. "
            f"Received: {reason}. Run source .venv/bin/activate, or make repro."
        )


def _require_place_of_store(workspace: Workspace) -> None:
    """Refuses a project in a folder that its MLflow store does not support."""
    database = workspace.tracking_database.resolve()
    is_usual = "%" not in str(database) and len(str(database)) < 100 and not database.is_dir()
    if not is_usual and not os.environ.get("MLFLOW_TRACKING_URI"):
        from person_attributes.tracking.database import refuse_path  # imports MLflow

        refuse_path(database)


def _refuse_own_files(workspace: Workspace, params: Params) -> None:
    """Refuses a source that stages would change, as DVC does."""
    source = params.data.source
    folder = Path(os.path.realpath(workspace.root / source))  # accepts a link to itself
    if reason := _describe_overlap(workspace, params, folder):
        raise ParamsError(
            "params.yaml: data.source: expected a folder or a .zip without outputs of stages. "
            f"Received: {source!r}, {reason}. Move the data, and set data.source to its path."
        )


def _describe_overlap(workspace: Workspace, params: Params, folder: Path) -> str:
    """Describes the outputs in a folder, or around it; empty if there are none."""
    phases = workspace.weights(INITIAL).parent
    histories = workspace.history(INITIAL).parent
    for path in (
        workspace.records,
        workspace.label_map,
        workspace.split,
        workspace.pack(params.data.image_sizes[0]),
        phases,
        histories,
        workspace.selected,
        workspace.data_page,
        workspace.evaluation_page,
    ):
        if path.resolve().is_relative_to(folder):
            return f"which contains {workspace.relative(path)}"
    for path in (phases, histories, workspace.selected, workspace.evaluation):
        if folder.is_relative_to(path.resolve()):
            return f"which is in {workspace.relative(path)}"
    return "which DVC takes for one of its own files" if folder.suffix == ".dvc" else ""


def _require_starting_weights(workspace: Workspace, section: StartingWeightsParams) -> None:
    """Refuses a file that the stage `initialize` would not find."""
    path = workspace.home / section.source
    if section.source and not section.is_model and not path.is_file():
        raise ParamsError(
            f"params.yaml: model.starting_weights.source: {path}: no such file. Correct the path, "
            "or leave it empty to draw random weights."
        )


def _describe_warmups(params: Params) -> None:
    """Prints a note for each phase whose learning rate rises until its end."""
    for name, phase in params.phases.items():
        schedule = params.schedules[phase.schedule]
        if schedule.kind == "cosine" and schedule.warmup_epochs >= phase.epochs:
            print(
                f"check: phases.{name}: the learning rate only rises: the phase has epochs "
                f"{phase.epochs}, and schedules.{phase.schedule} has warmup_epochs "
                f"{schedule.warmup_epochs:g}. Raise epochs, or choose another schedule."
            )


def _describe_copies(workspace: Workspace, source: str) -> None:
    """Prints a note if the copies in which DVC runs experiments will lack files of the source."""
    root = workspace.root.resolve()
    place = root / source
    links = [folder for folder in (place, *place.parents) if folder.is_symlink()]
    is_absolute = Path(source).is_absolute() or any(link.readlink().is_absolute() for link in links)
    if is_absolute or place.is_relative_to(root / workspace.relative(workspace.sample)):
        return
    path = Path(os.path.relpath(place.resolve(), root))
    pointers = [f"{folder}.dvc" for folder in (path, *path.parents) if folder.name]
    named = f"{source}, a link to {path}," if links else source
    untracked = _describe_untracked(root, str(path), named)
    if not untracked or _list_files(root, "--", *pointers):
        return
    advice = (
        "set an absolute path, or move it to a folder of the project that git does not ignore, and "
        "run dvc add."
    )
    if present := [pointer for pointer in pointers if (root / pointer).exists()]:
        untracked, advice = present[0], f"run git add {shlex.quote(present[0])}."
    print(
        f"check: data.source: {untracked} is tracked by neither git nor DVC. dvc exp run --queue "
        f"and --temp will not find it: {advice}"
    )


def _describe_untracked(root: Path, path: str, named: str) -> str:
    """Names what git does not track: the source, or a file in it; empty if it tracks all."""
    if not _list_files(root, "--", path):
        return named
    names = (Path(name) for name in _list_files(root, "--others", "--", path))
    # Some systems write hidden files into folders, such as .DS_Store.
    visible = sorted(str(name) for name in names if not name.name.startswith("."))
    return f"{visible[0]}, one of {len(visible)} files," if visible else ""


def _list_files(root: Path, *arguments: str) -> list[str]:
    """Lists files below some paths: those that git tracks, or all others with `--others`."""
    listed = subprocess.run(
        ["git", "--literal-pathspecs", "ls-files", "-z", *arguments],
        cwd=root,
        capture_output=True,
        check=False,
    )
    return os.fsdecode(listed.stdout).split("\0")[:-1]
