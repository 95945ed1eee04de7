"""Any input gives records, quarantined rows or a one-line error, without other effects.

Inputs are random mutations of the corpus. `make fuzz` runs the same checks for longer.
"""

import io
import random as randomness
import string
import zipfile
from pathlib import Path

import pytest
from fuzzing.targets import TARGETS, ForbiddenAccessError, prepare, read_corpus, watched
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from person_attributes.config import Params
from person_attributes.data.source import open_source
from person_attributes.errors import SourceError

EXAMPLES = {"annotations": 150, "archives": 150, "images": 1500, "lists": 150}

# A long deadline, because machines of continuous integration are slow; it only detects a hang.
SLOW = settings(
    deadline=5000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare()


@st.composite
def mutations(draw: st.DrawFn, target: str) -> bytes:
    """Draws an input of the corpus with bytes changed, deleted, repeated or truncated."""
    content = bytearray(draw(st.sampled_from(read_corpus(target))))
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.sampled_from([1, 1, 2, 4, 20]))
        match draw(st.sampled_from(["set", "random", "delete", "repeat", "cut"])):
            case "set":
                content[place : place + 1] = draw(st.sampled_from([b"\0", b"\xff", b'"', b"\n"]))
            case "random":
                content[place : place + length] = draw(st.binary(min_size=1, max_size=length))
            case "delete":
                del content[place : place + length]
            case "repeat":
                content[place:place] = content[place : place + length] * 3
            case "cut":
                del content[max(place, 1) :]
    return bytes(content)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS)
def test_mutated_input_is_handled(target: str) -> None:
    @settings(SLOW, max_examples=EXAMPLES[target])
    @given(mutations(target))
    def read(content: bytes) -> None:
        TARGETS[target](content)

    read()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_random_bytes_are_handled(target: str, size: int) -> None:
    TARGETS[target](randomness.Random(size).randbytes(size))


def test_the_audit_hook_detects_forbidden_access() -> None:
    for trespass in (
        lambda: Path("/etc/hostname").read_bytes(),
        lambda: Path("/tmp/written-by-a-test").write_bytes(b""),
        lambda: Path("/tmp/made-by-a-test").mkdir(),
    ):
        with pytest.raises(ForbiddenAccessError), watched():
            trespass()


PARTS = st.sampled_from(["..", ".", "", "/", "a", "inside", "link", "~", "a\\b", "C:", "\0", "é"])
NAMES = st.lists(PARTS, max_size=6).map("/".join) | st.text(string.printable, max_size=30)


@SLOW
@given(name=NAMES)
def test_a_folder_reads_only_its_own_files(
    name: str, params: Params, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "folder"
    inside = root / "inside"
    if not root.exists():
        inside.mkdir(parents=True)
        (root / "secret").write_bytes(b"secret")
        (inside / "a").write_bytes(b"own")
        (inside / "link").symlink_to(root)
    source = open_source(inside, params.data.limits)
    if name in source:
        assert source.read(name) == b"own"
    assert f"{name}/../secret" not in source


@SLOW
@given(name=NAMES)
def test_an_archive_with_a_member_outside_is_refused(
    name: str, params: Params, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "named.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("labels.csv"), b"")
        archive.writestr(zipfile.ZipInfo(name or "x"), b"")
    path.write_bytes(buffer.getvalue())
    stored = name.partition("\0")[0]  # zip archives truncate names at a null byte
    is_outside = stored.startswith(("/", "\\")) or ".." in stored.replace("\\", "/").split("/")
    try:
        open_source(path, params.data.limits)
    except SourceError:
        return
    assert not is_outside or stored.endswith("/")
