"""Resolves both lock files from pyproject.toml, and writes conda.yaml from requirements.lock.

The project has no uv.lock: MLflow would copy it into every model, and install all packages of
training to serve it.
"""

import shutil
import subprocess
from pathlib import Path

LOWEST_PYTHON = "3.11"
EVERYTHING = ["--extra", "shared", "--group", "dev"]
ROOT = Path(__file__).parent.parent


def main() -> None:
    """Writes the three files."""
    development, runtime = ROOT / "requirements-dev.lock", ROOT / "requirements.lock"
    resolve(development, EVERYTHING)
    # uv keeps the versions in an existing file, so both files have the same, tested versions.
    shutil.copy(development, runtime)
    resolve(runtime, [])
    requirements = runtime.read_text(encoding="utf-8").splitlines()
    (ROOT / "conda.yaml").write_text(render_conda(requirements), encoding="utf-8")


def resolve(lock: Path, options: list[str]) -> None:
    """Resolves one set of versions for all platforms and Pythons; keeps those in the lock file."""
    everywhere = ["--universal", "--python-version", LOWEST_PYTHON, "--fork-strategy", "fewest"]
    quiet = ["--quiet", "--no-annotate", "--no-header"]
    command = ["uv", "pip", "compile", "pyproject.toml", *everywhere, *quiet, *options]
    subprocess.run([*command, "--output-file", lock.name], cwd=ROOT, check=True)


def render_conda(requirements: list[str]) -> str:
    """Renders the conda environment of `MLproject`, without the package: MLflow caches it.

    The path to `third_party` is relative. conda runs pip in the folder of its file, and MLflow
    runs pip and uv in a folder of links to the project's files.
    """
    lines = [
        "# Written by `make lock`: the versions of requirements.lock. MLproject names this file;",
        "# MLflow builds it with conda, uv or virtualenv.",
        "name: person-attributes",
        "channels: [conda-forge]",
        "dependencies:",
        f"  - python={LOWEST_PYTHON}",
        "  - pip",
        "  - pip:",
        *(f"      - {requirement}" for requirement in requirements),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
