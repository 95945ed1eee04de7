"""Import rules; the contracts of import-linter are in `pyproject.toml`."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from imports import SOURCE, find_closure, reduce_packages


def test_the_contracts_of_pyproject_are_kept() -> None:
    command = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_diagram_of_packages_equals_the_imports() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = text.partition("## Packages")[2].partition("```mermaid")[2].partition("```")[0]
    edges = {
        (above, below)
        for line in re.findall(r"^ *([\w& ]+) --> ([\w& ]+)$", drawn, re.MULTILINE)
        for above in line[0].split(" & ")
        for below in line[1].split(" & ")
    }
    assert edges == reduce_packages()


@pytest.mark.parametrize("entry", ["serving.served_model", "server.run"])
def test_the_served_model_and_its_server_import_only_packages_of_its_environment(
    entry: str,
) -> None:
    available = {"PIL", "mlflow", "msgspec", "numpy", "onnxruntime", "pandas", "person_attributes"}
    if entry == "server.run":
        # Of these, mlflow-skinny requires all but the first.
        available |= {"prometheus_client", "starlette", "uvicorn"}
    modules = find_closure(entry)
    for name in modules:
        path = SOURCE / Path(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        others = _imports(file) - available - sys.stdlib_module_names
        assert not others, f"{name} imports {others}"
    assert {"data.images", "labels", "serving.classifier"} <= modules


def _imports(path: Path) -> set[str]:
    """Lists the packages that a file imports at run time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_command_line_imports_no_slow_library() -> None:
    code = (
        "import sys; from person_attributes import cli; "
        "print({'tensorflow', 'keras', 'mlflow', 'sklearn', 'pandas', 'dvc'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "set()"
