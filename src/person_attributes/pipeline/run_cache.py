"""DVC's run cache for stages whose outputs persist.

By default, DVC deletes the outputs of a stage before it runs the stage. `persist` in `dvc.yaml`
keeps them, so a stage that fails leaves the earlier outputs in place. DVC does not use its run
cache for such stages. This module reads and writes the entries of DVC's run cache instead; `dvc
push --run-cache` shares them.
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
"""Options of `dvc` that make DVC itself skip its run cache."""


class RunCache:
    """The entries of one stage in DVC's run cache.

    Outputs are restored only if DVC runs the stage without an option that forces it. They are saved
    after every run, including one by hand.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        """Reads the stage and digests its inputs.

        Args:
            workspace: The project. Without a DVC repository, nothing is restored or saved.
            name: The stage as in `dvc.yaml`, such as `train@p1`.
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
            Whether there was such a run and DVC's cache has all of its outputs.
        """
        if self._stage is None or not self._may_restore():
            return False
        outputs = self._find_outputs()
        if outputs is None:
            return False
        with contextlib.ExitStack() as stack:
            for path, files in outputs.items():
                _copy(files, stack.enter_context(writing(path)))
        print(f"{self._name}: restored from DVC's run cache")
        return True

    def _may_restore(self) -> bool:
        """Returns whether DVC runs the stage and nothing forces it to be computed."""
        if os.environ.get("DVC_STAGE", "").rpartition(":")[2] != self._name:
            return False
        # DVC runs an unchanged stage only if forced. A queue of experiments hides the option.
        return not (self._is_unchanged or any(map(_FORCE.fullmatch, self._options)))

    def _find_outputs(self) -> dict[Path, dict[str, Path]] | None:
        """Finds the outputs of the earlier run, each with its files in DVC's cache.

        Returns:
            None if there was no such run, or a file is missing.
        """
        earlier = _Entries(self._stage.repo).find(self._stage)
        if earlier is None:
            return None
        if "--pull" in self._options:
            with contextlib.suppress(DvcException):  # no remote, or objects are missing in it
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
        """Commits the outputs to DVC's cache, and adds the run to the run cache."""
        if self._stage is None or "--no-commit" in self._options:
            return
        try:
            self._stage.save_outs()
            for out in self._stage.outs:
                out.commit(relink=False)
            self._stage.repo.stage_cache.save(self._stage)
        except DvcException as error:
            print(f"{self._name}: not saved in DVC's run cache: {error}")


class _Entries(StageCache):
    """The entries of the run cache.

    DVC's own `restore` cannot be used: it needs locks that the parent `dvc` process holds.
    """

    def find(self, stage: Any) -> Any:
        """Finds the last run of a stage with the same inputs, as a stage; None if there is none."""
        entry = self._load(stage)
        return self._create_stage(entry, wdir=stage.wdir) if entry else None


def _find_files(out: Any) -> dict[str, Path] | None:
    """Finds an output's files in DVC's cache, by their paths relative to the output.

    Returns:
        An output that is a file has an empty path. None if a file is missing or damaged.
    """
    digests = {"": out.hash_info.value}
    if out.hash_info.isdir:
        if not _is_intact(out.cache, out.hash_info.value):
            return None
        digests = {"/".join(name): digest.value for name, _, digest in out.get_obj()}
    damaged = [digest for digest in digests.values() if not _is_intact(out.cache, digest)]
    if damaged:
        return None
    return {name: Path(out.cache.oid_to_path(digest)) for name, digest in digests.items()}


def _is_intact(cache: Any, digest: str) -> bool:
    """Returns whether DVC's cache has an undamaged object; removes a damaged one.

    DVC would keep a damaged object and never write it again.
    """
    path = Path(cache.oid_to_path(digest))
    if not path.exists():
        return False
    if digest_path(path) == digest.removesuffix(".dir"):
        return True
    path.unlink()
    return False


def _copy(files: dict[str, Path], target: Path) -> None:
    """Copies the files of an output. DVC links them to its cache afterwards."""
    if "" not in files:
        target.mkdir(parents=True)  # the folder may be empty
    for name, file in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, path)


def _quieten_dvc() -> None:
    """Hides DVC's messages: the `dvc` that runs the stage prints its own."""
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.ERROR)
