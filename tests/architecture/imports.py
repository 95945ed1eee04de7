"""The import graph of the package, and the code dependencies of each stage."""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import grimp
from conftest import ROOT

PACKAGE = "person_attributes"
SOURCE = ROOT / "src" / PACKAGE

STAGES = (
    "sample", "ingest", "encode", "split", "pack", "inspect", "initialize", "train", "select",
    "evaluate", "register",
)  # fmt: skip

WITH_PAGES = {"inspect", "evaluate", "register"}
"""Stages that write a page; the others only log plots to MLflow."""

_CHANGE_NO_RESULT = {"config", "errors", "runtime", "tracking", "workspace"}


@cache
def build_graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)


def find_closure(module: str, left_out: set[str] = frozenset()) -> set[str]:  # type: ignore[assignment]
    """Lists a module and all modules that it imports, directly or indirectly.

    Imports inside functions are included. Modules in `left_out` packages are not followed.

    Args:
        module: A name relative to the package.
        left_out: Names of packages.

    Returns:
        Names relative to the package.
    """
    found: set[str] = set()
    queue = [f"{PACKAGE}.{module}"]
    while queue:
        name = queue.pop()
        short = name.removeprefix(f"{PACKAGE}.")
        if name == PACKAGE or short in found or short.split(".")[0] in left_out:
            continue
        found.add(short)
        queue += build_graph().find_modules_directly_imported_by(name)
    return found


def find_code(stage: str) -> set[str]:
    """Lists the files that a stage depends on.

    These are its modules, files with the same name but another suffix (such as templates), and
    `__init__.py` files with code.
    """
    left_out = _CHANGE_NO_RESULT | (set() if stage in WITH_PAGES else {"reporting"})
    files = set()
    for module in find_closure(f"pipeline.{stage}", left_out):
        path = SOURCE / Path(*module.split("."))
        if path.is_dir():
            continue
        files |= set(path.parent.glob(f"{path.name}.*"))
        files |= {file for file in [path.parent / "__init__.py"] if _has_code(file)}
    return {file.relative_to(ROOT).as_posix() for file in files}


def expand(declared: list[str]) -> set[str]:
    """Replaces folders in a list of `dvc.yaml` by their files."""
    files = set()
    for name in declared:
        path = ROOT / name
        below = path.rglob("*") if path.is_dir() else [path]
        files |= {
            file.relative_to(ROOT).as_posix()
            for file in below
            if file.is_file() and "__pycache__" not in file.parts
            if file.name != "__init__.py" or _has_code(file)
        }
    return files


def _has_code(file: Path) -> bool:
    """Whether a file contains more than a docstring."""
    return len(ast.parse(file.read_text(encoding="utf-8")).body) > 1


def reduce_packages() -> set[tuple[str, str]]:
    """Returns the imports between packages, reduced transitively."""
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")} | {"cli"}
    imported: dict[str, set[str]] = defaultdict(set)
    for importer in build_graph().modules:
        for name in build_graph().find_modules_directly_imported_by(importer):
            above, below = (part.split(".")[1:2] for part in (importer, name))
            if above and below and above != below:
                imported[above[0]] |= set(below) & packages
    return {
        (above, below)
        for above in packages
        for below in imported[above]
        if not any(below in _reach(imported, other) for other in imported[above] - {below})
    }


def _reach(imported: dict[str, set[str]], package: str) -> set[str]:
    found, queue = set(), [package]
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += imported[name]
    return found
