"""Resolves requirements.lock from pyproject.toml and writes the same versions into conda.yaml."""

import shutil
import subprocess
import tempfile
from pathlib import Path

PYTHON_VERSION = "3.11"
CONDA_PYTHON = "3.11.7"
ROOT = Path(__file__).parent.parent


def main() -> None:
    """Writes both files."""
    lock = ROOT / "requirements.lock"
    options = ["--python-version", PYTHON_VERSION, "--python-platform", "linux"]
    quiet = ["--quiet", "--no-annotate", "--no-header"]
    extras = ["--extra", "dev", "--extra", "demo"]
    compile_command = ["uv", "pip", "compile", "pyproject.toml", *options, *quiet]
    subprocess.run([*compile_command, *extras, "--output-file", str(lock)], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        # What is there already is kept: without it, conda.yaml would run ahead of the lock.
        runtime = Path(shutil.copy(lock, folder))
        subprocess.run([*compile_command, "--output-file", str(runtime)], cwd=ROOT, check=True)
        requirements = runtime.read_text(encoding="utf-8").splitlines()
    (ROOT / "conda.yaml").write_text(render_conda(requirements), encoding="utf-8")


def render_conda(requirements: list[str]) -> str:
    """Renders the environment that `MLproject` names; no editable install, MLflow caches it."""
    lines = [
        "# Written by `make lock` from requirements.lock: the same versions, without the tools for",
        "# developing. MLproject names this file; MLflow builds it with conda, uv or virtualenv.",
        "name: person-attributes",
        "channels: [conda-forge]",
        "dependencies:",
        f"  - python={CONDA_PYTHON}",
        "  - pip",
        "  - pip:",
        *(f"      - {requirement}" for requirement in requirements),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
