"""A project runs in any folder, and with any type of links of DVC's cache."""

from collections.abc import Callable
from pathlib import Path

from conftest import Project


def test_a_project_runs_in_a_folder_that_is_no_url_with_a_linked_cache(
    make_project: Callable[[str], Project], tmp_path: Path
) -> None:
    project = make_project("places").copy(tmp_path / "what? #1 100% ümläut")
    project.run("dvc", "config", "cache.type", "symlink")
    assert project.repro("pack@32") == ["sample", "ingest", "pack@32"]
    assert next((project.root / "data/sample").rglob("*.jpg")).is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == [project.root.name]
    rows = (project.root / "data/records/records.csv").read_text().splitlines()
    assert len(rows) == 1 + 60
