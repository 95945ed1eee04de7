"""Files are replaced whole, and what killed processes leave is cleared."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from person_attributes.files import writing


@pytest.fixture(scope="module")
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_failed_write_keeps_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("earlier")
    with pytest.raises(FileNotFoundError), writing(path) as temporary:
        Path(temporary.name, "missing").touch()
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    path.mkdir()
    (path / "part-0.parquet").touch()
    with pytest.raises(IsADirectoryError, match=str(path)), writing(path) as temporary:
        temporary.touch()
    assert list(path.iterdir()) == [path / "part-0.parquet"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_a_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    path = tmp_path / "sample"
    path.symlink_to(tmp_path / "elsewhere")
    with writing(path) as temporary:
        temporary.mkdir()
    assert not path.is_symlink()
    assert list(path.iterdir()) == []
    assert {entry.name for entry in tmp_path.iterdir()} == {"elsewhere", "sample"}
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_files_of_killed_processes_are_removed_and_of_running_ones_kept(
    tmp_path: Path, dead_pid: int
) -> None:
    abandoned = tmp_path / f".writing-{dead_pid}-a.json"
    running = tmp_path / f".writing-{os.getppid()}-a.json"
    others = [tmp_path / f".writing-{name}" for name in ("backup-a.json", f"{dead_pid}-b-a.json")]
    for path in (abandoned, running, *others):
        path.write_text("half")
    with writing(tmp_path / "a.json") as temporary:
        temporary.write_text("new")
    assert not abandoned.exists()
    assert all(path.exists() for path in (running, *others))


def test_a_folder_that_a_killed_process_moved_away_is_restored(
    tmp_path: Path, dead_pid: int
) -> None:
    path = tmp_path / "sample"
    earlier = tmp_path / f".writing-{dead_pid}-earlier-sample"
    earlier.mkdir()
    (earlier / "1.jpg").write_bytes(b"image")
    with writing(tmp_path / "labels.csv") as temporary:
        temporary.touch()
    assert not path.exists(), "only the folder's own next write restores it"
    with pytest.raises(FileNotFoundError), writing(path) as temporary:
        (temporary / "1.jpg").touch()
    assert (path / "1.jpg").read_bytes() == b"image"
