"""The code dependencies in `dvc.yaml` equal the imports of each stage."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, Project, read_yaml
from imports import STAGES, expand, find_code

from person_attributes.config import read_params
from person_attributes.digests import digest_code

PHASES = [f"train@{phase}" for phase in read_params(ROOT / "recipes" / "sample.yaml").phases]
PACKS = [f"pack@{size}" for size in read_params(ROOT / "recipes" / "sample.yaml").data.image_sizes]


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml_lists_the_imports_of_each_stage(stage: str) -> None:
    declared = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    listed = [name for name in declared.get("do", declared)["deps"] if name.startswith("src/")]
    listed_files, reached = expand(listed), find_code(stage)
    add, remove = sorted(reached - listed_files), sorted(listed_files - reached)
    assert (add, remove) == ([], []), f"dvc.yaml, deps of {stage}: add {add}, remove {remove}"
    assert listed == sorted(listed)


def test_digest_code_uses_the_dependencies_of_dvc_yaml() -> None:
    declared = read_yaml(ROOT / "dvc.yaml")["stages"]["train"]["do"]["deps"]
    assert list(digest_code("train")) == [name for name in declared if name.startswith("src/")]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project with placeholder outputs, which DVC regards as up to date."""
    project = Project(tmp_path_factory.mktemp("executed") / "project")
    for part in ("src", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml"):
        target = project.root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, target)
    shutil.copy(ROOT / "recipes" / "sample.yaml", project.params_file)
    project.run("git", "init", "--quiet")
    for name in _list_outputs(project):
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_text(name)
        else:
            path.mkdir()
            (path / "file").write_text(name)
    project.run("dvc", "commit", "--force", "--quiet")
    assert _find_stale(project) == set()
    return project


def _list_outputs(project: Project) -> list[str]:
    """Lists the outputs of all stages, templates resolved."""
    params = read_params(project.params_file)
    names: list[str] = []
    for declared in read_yaml(project.root / "dvc.yaml")["stages"].values():
        of_each = declared.get("do", declared)
        for out in (*of_each.get("outs", ()), *of_each.get("metrics", ())):
            (name,) = out
            keys = params.phases if "${key}" in name else params.data.image_sizes
            names += [name.replace("${key}", str(key)).replace("${item}", str(key)) for key in keys]
    return list(dict.fromkeys(names))


def _find_stale(project: Project) -> set[str]:
    """Lists the stages with a changed dependency, according to `dvc status`."""
    status = json.loads(project.run("dvc", "status", "--json").stdout)
    return {
        stage
        for stage, changes in status.items()
        if any(isinstance(change, dict) and "changed deps" in change for change in changes)
    }


EDITS = [
    pytest.param(
        "pipeline/phases.py",
        'f"{seed}/{phase}"',
        'f"{seed}-{phase}"',
        {*PHASES},
        id="the seeds of phases",
    ),
    pytest.param(
        "evaluation/results.py",
        "count = min(section.training_rows, ",
        "count = min(section.training_rows // 2, ",
        {"evaluate"},  # and later `register`, which depends on its metrics
        id="the training rows that are evaluated",
    ),
    pytest.param(
        "modeling/ensemble.py",
        "layers.Average(",
        "layers.Maximum(",
        {"evaluate", "register"},
        id="how members of an ensemble are averaged",
    ),
    pytest.param(
        "framing.py",
        "return int(height), int(width or height)",
        "return int(width or height), int(height)",
        {"ingest", *PACKS, "inspect", "initialize", *PHASES, "evaluate", "register"},
        id="height and width",
    ),
    pytest.param(
        "data/split.py",
        "records.index.get_indexer(pd.Index(rows))",
        "records.index.get_indexer(pd.Index(rows[::-1]))",
        {"split", "inspect", "initialize", *PHASES, "evaluate", "register"},
        id="the positions of rows",
    ),
    pytest.param(
        "reporting/report.html.jinja", "</h2>", " of this run</h2>", {"evaluate"}, id="a heading"
    ),
    pytest.param(
        "runtime/progress_bar.py", 'unit="image"', 'unit="img"', set(), id="a progress bar"
    ),
]


@pytest.mark.parametrize(("file", "before", "after", "stale"), EDITS)
def test_an_edit_makes_only_the_affected_stages_stale(
    executed: Project, file: str, before: str, after: str, stale: set[str]
) -> None:
    path = executed.root / "src" / "person_attributes" / Path(file)
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    try:
        assert _find_stale(executed) == stale
    finally:
        path.write_text(text, encoding="utf-8")
