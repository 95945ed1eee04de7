"""DVC's run cache for stages whose outputs persist.

DVC deletes the outputs of a stage before it runs it. `persist` in `dvc.yaml` forbids that, so that
a stage that fails leaves the earlier outputs. But DVC neither asks nor fills its run cache for such
stages, so they do it here, with DVC's own entries: `dvc push --run-cache` shares them.
"""

import contextlib
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage.cache import StageCache

from person_attributes.digests import digest_path
from person_attributes.dvc_processes import find_dvc_processes
from person_attributes.files import writing
from person_attributes.workspace import Workspace

_FORCE = re.compile(r"-[a-zA-Z]*f[a-zA-Z]*|--force(-downstream)?|--no-run-cache")
"""Options of `dvc` with which it would not ask its run cache either."""


class RunCache:
    """What DVC's run cache holds of one stage.

    It is asked only where DVC runs the stage and was not told to force it. It is filled wherever
    the stage runs, also by hand.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        """Reads the stage and the digests of its inputs.

        Args:
            workspace: The project; there is nothing to restore where it is no DVC repository.
            name: The stage, as `dvc.yaml` has it.
        """
        _quieten_dvc()
        self._name = name
        self._options = [word for _, command in find_dvc_processes() for word in command]
        self._stage: Any = None
        self._is_unchanged = False
        with contextlib.suppress(DvcException):
            stages = Repo(str(workspace.root)).stage
            stage = stages.load_one(path=str(workspace.root / "dvc.yaml"), name=name)
            if stage.deps and stage.outs and not stage.always_changed:
                self._is_unchanged = not any(stage.changed_entries())
                stage.save_deps()
                for out in stage.outs:
                    out.persist = False
                self._stage = stage

    def restore(self) -> bool:
        """Restores the outputs of an earlier run with the same command, parameters and inputs.

        Returns:
            Whether there was such a run, and DVC's cache has all that it wrote.
        """
        if self._stage is None or not self._is_asked():
            return False
        outputs = self._find_outputs()
        if outputs is None:
            return False
        with contextlib.ExitStack() as stack:
            for path, files in outputs.items():
                _copy(files, stack.enter_context(writing(path)))
        print(f"{self._name}: restored from DVC's run cache")
        return True

    def _is_asked(self) -> bool:
        """Says whether DVC runs the stage, and would take what its run cache has."""
        if os.environ.get("DVC_STAGE", "").rpartition(":")[2] != self._name:
            return False
        # DVC runs an unchanged stage only where it is forced, perhaps by a queue that hides it.
        return not (self._is_unchanged or any(map(_FORCE.fullmatch, self._options)))

    def _find_outputs(self) -> dict[Path, dict[str, Path]] | None:
        """Finds the outputs of the earlier run, each with its files in DVC's cache."""
        earlier = _Entries(self._stage.repo).find(self._stage)
        if earlier is None:
            return None
        if "--pull" in self._options:
            with contextlib.suppress(DvcException):  # no remote, or it lacks some of them
                for objects in earlier.get_used_objs().values():
                    self._stage.repo.cloud.pull(objects)
        outputs = {}
        for out in earlier.outs:
            files = _find_files(out)
            if files is None:
                return None
            outputs[Path(out.fs_path)] = files
        return outputs

    def save(self) -> None:
        """Commits the outputs to DVC's cache, and notes the run."""
        if self._stage is None or "--no-commit" in self._options:
            return
        try:
            self._stage.save_outs()
            for out in self._stage.outs:
                out.commit(relink=False)
            self._stage.repo.stage_cache.save(self._stage)
        except DvcException as error:
            print(f"{self._name}: not kept in DVC's run cache: {error}")


class _Entries(StageCache):
    """The entries of the run cache.

    DVC's own `restore` cannot be used: it asks for locks that the `dvc` above this process holds.
    """

    def find(self, stage: Any) -> Any:
        """Finds the last run of a stage with these inputs, as a stage; None where there is none."""
        entry = self._load(stage)
        return self._create_stage(entry, wdir=stage.wdir) if entry else None


def _find_files(out: Any) -> dict[str, Path] | None:
    """Finds an output's files in DVC's cache, by their names below it.

    Returns:
        None where a file is missing or damaged.
    """
    digests = {"": out.hash_info.value}
    if out.hash_info.isdir:
        if not _is_sound(out.cache, out.hash_info.value):
            return None
        digests = {"/".join(name): digest.value for name, _, digest in out.get_obj()}
    unsound = [digest for digest in digests.values() if not _is_sound(out.cache, digest)]
    if unsound:
        return None
    return {name: Path(out.cache.oid_to_path(digest)) for name, digest in digests.items()}


def _is_sound(cache: Any, digest: str) -> bool:
    """Says whether DVC's cache has an object; a damaged one is removed, or DVC would keep it."""
    path = Path(cache.oid_to_path(digest))
    if not path.exists():
        return False
    if digest_path(path) == digest.removesuffix(".dir"):
        return True
    path.unlink()
    return False


def _copy(files: dict[str, Path], target: Path) -> None:
    """Copies the files of an output; DVC links them to its cache itself afterwards."""
    if "" not in files:
        target.mkdir(parents=True)  # a folder, which may be empty
    for name, file in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, path)


def _quieten_dvc() -> None:
    """Keeps DVC's messages and progress bars out of those of the `dvc` that runs the stage."""
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.ERROR)
