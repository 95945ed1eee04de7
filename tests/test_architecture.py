"""The house in order: what may import what, what must be equal, what must be declared."""

import ast
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT, read_yaml

from person_attributes import errors

SOURCE = ROOT / "src" / "person_attributes"

FLOORS = [
    {"errors", "framing"},
    {"config", "digests", "dvc_processes", "keras_import", "labels", "workspace"},
    {"data", "modeling"},
    {"drawing"},
    {"training", "evaluation", "inspection"},
    {"tracking", "serving"},
    {"registry", "quantization", "scoring", "served_model", "lr_finder", "comparing", "promotion"},
    {"stages"},
    {"sweeping", "demo"},
    {"cli"},
    {"__main__"},
]
"""Rooms from the ground up; a room imports from floors below it."""

MAY_IMPORT_MLFLOW = {
    "tracking",
    "serving",
    "served_model",
    "registry",
    "promotion",
    "scoring",
    "comparing",
    "demo",
}


def _room(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


MODULES = [path for path in sorted(SOURCE.rglob("*.py")) if path.stem != "__init__"]


def _floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_point_down(path: Path) -> None:
    room = _room(path)
    names = [name.split(".") for name in _imports(path)]
    rooms = {parts[1] for parts in names if parts[0] == "person_attributes" and len(parts) > 1}
    for other in rooms - {room}:
        assert _floor(other) < _floor(room), f"{room} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_mlflow_has_its_rooms(path: Path) -> None:
    if _room(path) not in MAY_IMPORT_MLFLOW:
        assert not {name for name in _imports(path) if name.split(".")[0] == "mlflow"}


def test_the_served_model_needs_what_its_environment_brings_and_no_more() -> None:
    """What `served_model` imports, directly or not, is in the registered model's requirements."""
    brought = {"PIL", "mlflow", "numpy", "onnxruntime", "pandas", "person_attributes"}
    queue, seen = ["person_attributes.served_model"], set()
    while queue:
        name = queue.pop()
        path = SOURCE.parent / Path(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not file.exists():
            continue
        seen.add(name)
        for imported in _imports(file):
            top = imported.split(".")[0]
            assert top in brought | sys.stdlib_module_names, f"{name} imports {imported}"
            if top == "person_attributes":
                queue.append(imported)
    assert {"person_attributes.data.images", "person_attributes.labels"} <= seen


def test_photographs_and_their_labels_stay_out_of_git(tmp_path: Path) -> None:
    import shutil
    import subprocess

    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    default = read_yaml(ROOT / "MLproject")["entry_points"]["predict"]["parameters"]["output"]
    private = [default["default"], "predictions.csv.part.json", "labels.parquet", "photos.zip"]
    private += ["photos/1.jpg", "images/1.jpg", "data/photos/1.jpg"]
    names = [*private, "photos.dvc", "docs/images/data.png", "reports/metrics.json"]
    done = subprocess.run(
        ["git", "check-ignore", *names], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == private


def test_every_error_is_in_the_tree_and_drawn() -> None:
    drawn = errors.__doc__ or ""
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(classes) > 5
    for error in classes:
        assert issubclass(error, errors.PersonAttributesError)
        assert error.__name__ in drawn


def test_conda_has_the_versions_of_the_lock() -> None:
    conda = read_yaml(ROOT / "conda.yaml")
    assert set(conda) == {"name", "channels", "dependencies"}
    python, pip, listed = conda["dependencies"]
    assert re.fullmatch(r"python=3\.\d+", python), "a patch release may be missing elsewhere"
    assert pip == "pip"
    assert listed["pip"] == (ROOT / "requirements.lock").read_text().splitlines()


def test_what_runs_has_the_versions_that_are_tested() -> None:
    run, tested = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert len(run) > 150
    assert run.items() < tested.items()
    assert not {"atheris", "boto3", "gradio", "mypy", "playwright", "pytest"} & run.keys()


def test_direct_dependencies_are_locked_at_their_pins() -> None:
    import tomllib

    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = content["project"]["optional-dependencies"]
    named = content["project"]["dependencies"] + extras["demo"] + extras["shared"]
    pinned = {re.sub(r"\[.*?\]", "", name) for name in named if "==" in name}
    assert len(pinned) > 15
    assert pinned <= set((ROOT / "requirements-dev.lock").read_text().splitlines())
    # What stands in for opencv-python brings the OpenCV that is pinned.
    stub = tomllib.loads((ROOT / "third_party/opencv-python-stub/pyproject.toml").read_text())
    assert set(stub["project"]["dependencies"]) <= pinned


def test_the_server_has_the_versions_of_the_project() -> None:
    pins = set(re.findall(r"[\w\[\]-]+==[\w.]+", (ROOT / "deploy/Dockerfile").read_text()))
    assert len(pins) == 4
    assert pins < set(re.findall(r"[\w\[\]-]+==[\w.]+", (ROOT / "pyproject.toml").read_text()))


def test_mlproject_names_the_conda_file_and_known_commands() -> None:
    from person_attributes.cli import main

    project = read_yaml(ROOT / "MLproject")
    assert project["conda_env"] == "conda.yaml"
    stages = {
        "ingest",
        "encode",
        "split",
        "pack",
        "inspect",
        "initialize",
        "train",
        "evaluate",
        "register",
    }
    assert stages < set(project["entry_points"])
    for name in stages:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0


def test_cheap_commands_import_neither_tensorflow_nor_mlflow() -> None:
    import subprocess

    code = (
        "import sys; from person_attributes import cli, stages; "
        "print({'tensorflow', 'keras', 'mlflow', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "set()"
