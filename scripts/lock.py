"""Resolves both lock files from pyproject.toml, and writes the first as conda.yaml as well.

There is no uv.lock: MLflow would copy it into every model, and install all that training needs
where a model is served.
"""

import shutil
import subprocess
from pathlib import Path

LOWEST_PYTHON = "3.11"
EVERYTHING = ["--extra", "demo", "--extra", "shared", "--group", "dev"]
ROOT = Path(__file__).parent.parent


def main() -> None:
    """Writes the three files."""
    everything, what_runs = ROOT / "requirements-dev.lock", ROOT / "requirements.lock"
    resolve(everything, EVERYTHING)
    # Versions that a file holds are kept, so that what runs is what is tested.
    shutil.copy(everything, what_runs)
    resolve(what_runs, [])
    requirements = what_runs.read_text(encoding="utf-8").splitlines()
    (ROOT / "conda.yaml").write_text(render_conda(requirements), encoding="utf-8")


def resolve(lock: Path, options: list[str]) -> None:
    """Resolves one set of versions for all platforms and Pythons; keeps those it holds already."""
    everywhere = ["--universal", "--python-version", LOWEST_PYTHON, "--fork-strategy", "fewest"]
    quiet = ["--quiet", "--no-annotate", "--no-header"]
    command = ["uv", "pip", "compile", "pyproject.toml", *everywhere, *quiet, *options]
    subprocess.run([*command, "--output-file", lock.name], cwd=ROOT, check=True)


def render_conda(requirements: list[str]) -> str:
    """Renders the environment that `MLproject` names; no editable install, MLflow caches it.

    The path of the stand-in is relative: conda runs pip in the folder of its file, and MLflow
    runs pip and uv in a folder of links to the project's.
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
