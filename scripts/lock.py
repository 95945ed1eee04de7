"""Resolves both lock files from pyproject.toml, and writes the first as conda.yaml as well.

There is no uv.lock: MLflow would copy it into every model, and install all that training needs
where a model is served.
"""

import subprocess
from pathlib import Path

LOWEST_PYTHON = "3.11"
STUB = "third_party/opencv-python-stub"
EVERYTHING = ["--extra", "demo", "--extra", "shared", "--group", "dev"]
ROOT = Path(__file__).parent.parent


def main() -> None:
    """Writes the three files."""
    # What runs is held to what everything together can have.
    resolve("requirements-dev.lock", EVERYTHING)
    resolve("requirements.lock", ["--constraints", "requirements-dev.lock"])
    requirements = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    (ROOT / "conda.yaml").write_text(render_conda(requirements), encoding="utf-8")


def resolve(name: str, options: list[str]) -> None:
    """Resolves one set of versions for all platforms and Pythons; keeps those it holds already."""
    everywhere = ["--universal", "--python-version", LOWEST_PYTHON, "--fork-strategy", "fewest"]
    quiet = ["--quiet", "--no-annotate", "--no-header"]
    command = ["uv", "pip", "compile", "pyproject.toml", *everywhere, *quiet, *options]
    subprocess.run([*command, "--output-file", name], cwd=ROOT, check=True)
    lock = ROOT / name
    # With its name, so that the file can constrain other requirements.
    lines = lock.read_text(encoding="utf-8").splitlines()
    named = [f"opencv-python @ file:{STUB}" if line == STUB else line for line in lines]
    lock.write_text("\n".join(named) + "\n", encoding="utf-8")


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
