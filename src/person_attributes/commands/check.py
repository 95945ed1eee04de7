"""The command `check`: reports errors early that would stop `dvc repro`."""

import configparser
import subprocess
from pathlib import Path

from person_attributes.config import INITIAL, Params
from person_attributes.data.archive import open_source
from person_attributes.errors import ParamsError, ProjectError, one_line
from person_attributes.workspace import Workspace


def check(workspace: Workspace, params: Params) -> None:
    """Checks that DVC can run here, that the data source exists, and the augmentation policies.

    The rest of `params.yaml` was checked when it was read.
    """
    from person_attributes.data.augment import check_policies

    if _uses_git(workspace.root):
        _require_git(workspace.root)
    _require_python(workspace.root)
    _refuse_own_files(workspace, params)
    check_policies(params.augmentation, params.data.image_sizes)
    _describe_warmups(params)
    source = workspace.root / params.data.source
    if source != workspace.sample:
        open_source(source, params.data.limits)
        if _uses_git(workspace.root):
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


def _refuse_own_files(workspace: Workspace, params: Params) -> None:
    """Refuses a source that contains outputs of stages, as DVC does: every run would change it."""
    source = params.data.source
    folder = (workspace.root / source).resolve()
    for path in (
        workspace.records,
        workspace.label_map,
        workspace.split,
        workspace.pack(params.data.image_sizes[0]),
        workspace.weights(INITIAL),
        workspace.history(next(iter(params.phases))),
        workspace.selected,
        workspace.data_page,
        workspace.evaluation_page,
    ):
        if path.resolve().is_relative_to(folder):
            raise ParamsError(
                "params.yaml: data.source: expected a folder or a .zip without outputs of "
                f"stages. Received: {source!r}, which contains {workspace.relative(path)}. "
                "Move the data, and set data.source to its path."
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
    """Prints a note if the copies in which DVC runs experiments will lack the source."""
    if Path(source).is_absolute() or (workspace.root / source).is_relative_to(workspace.sample):
        return
    path = Path(source)  # without a trailing slash
    folders = [folder for folder in (path, *path.parents) if folder.name]
    listed = subprocess.run(
        ["git", "ls-files", "--", str(path), *(f"{folder}.dvc" for folder in folders)],
        cwd=workspace.root,
        capture_output=True,
        check=False,
    )
    if not listed.stdout:
        print(
            f"check: data.source: {source} is tracked by neither git nor DVC. dvc exp run --queue "
            "and --temp will not find it: set an absolute path, or move it to a folder of the "
            "project that git does not ignore, and run dvc add."
        )
