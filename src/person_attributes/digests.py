"""Digests of files and folders, identical to those in `dvc.lock`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

_PROJECT = Path(__file__).parents[2]
"""The project whose code runs; `__main__` makes it the current folder's project."""


def digest_paths(root: Path, paths: Sequence[Path]) -> dict[str, str]:
    """Digests files and folders for a comparison with `dvc.lock`.

    Args:
        root: The project's folder; names of paths in it are relative to it.
        paths: The files and folders. Missing ones are skipped: the stage that reads them reports
            them.

    Returns:
        `{name: MD5 digest}`.
    """
    digests = {}
    for path in paths:
        if path.exists():
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
            digests[name] = digest_path(path)
    return digests


def digest_path(path: Path) -> str:
    """Digests a file, or all files of a folder except compiled Python, as in `.dvcignore`."""
    if path.is_dir():
        entries = [
            {"md5": digest_path(file), "relpath": file.relative_to(path).as_posix()}
            for file in path.rglob("*")
            if file.is_file() and file.parent.name != "__pycache__"
        ]
        entries.sort(key=lambda entry: entry["relpath"])
        return f"{hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest()}.dir"
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def combine(content: Mapping[str, object]) -> str:
    """Digests a mapping, independent of its order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_lock(path: Path) -> dict[str, Any]:
    """Reads the stages of `dvc.lock`; empty if the file does not exist."""
    if not path.exists():
        return {}
    stages: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["stages"]
    return stages


def recorded_outputs(lock: Mapping[str, Any], stage: str) -> dict[str, str]:
    """Returns the outputs of a stage in `dvc.lock`: `{name: MD5 digest}`."""
    return {out["path"]: out["md5"] for out in lock.get(stage, {}).get("outs", [])}


def read_stage(stage: str) -> dict[str, Any]:
    """Reads the declaration of a stage from this project's `dvc.yaml`, templates unresolved."""
    content = YAML(typ="safe").load((_PROJECT / "dvc.yaml").read_text(encoding="utf-8"))
    entry = content["stages"][stage]
    declared: dict[str, Any] = entry.get("do", entry)
    return declared


def digest_code(stage: str) -> dict[str, str]:
    """Digests the code dependencies of a stage in `dvc.yaml`."""
    listed = [name for name in read_stage(stage)["deps"] if name.startswith("src/")]
    return digest_paths(_PROJECT, [_PROJECT / name for name in listed])
