"""The quota of a container limits the cores."""

from pathlib import Path

import pytest

from person_attributes.runtime import cores as counting


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"": "max 100000"}, []),
        ({"a/b": "250000 100000"}, [2]),
        ({"a": "400000 100000", "a/b": "max 100000"}, [4]),
        ({"a/b": "50000 100000"}, [0]),
        ({"a/b": "broken"}, []),
        ({}, []),
    ],
)
def test_the_quota_of_a_container_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quotas: dict[str, str], cores: list[int]
) -> None:
    (tmp_path / "self").write_text("0::/a/b\n", encoding="ascii")
    for folder, text in quotas.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cpu.max").write_text(text + "\n", encoding="ascii")
    monkeypatch.setattr(counting, "_CGROUPS", tmp_path)
    monkeypatch.setattr(counting, "_OWN_CGROUP", tmp_path / "self")
    assert list(counting._read_quotas()) == cores
