"""Questions to git, which may be missing, or refuse a repository of another user."""

import subprocess
from pathlib import Path

from person_attributes.errors import one_line


def find_commit(root: Path, revision: str) -> str:
    """Returns the id of a git revision; empty if there is none, or if git does not answer."""
    git = _run_git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    return git.stdout.strip()


def find_prefix(root: Path) -> str:
    """Returns the path of a folder in its repository, which ends with a slash or is empty."""
    return _run_git(root, "rev-parse", "--show-prefix").stdout.removesuffix("\n")


def describe_fault(root: Path) -> str:
    """Describes why git does not answer questions about a folder; empty if it does."""
    git = _run_git(root, "rev-parse", "--show-prefix")
    return one_line(git.stderr, 300).rstrip(".") if git.returncode else ""


def _run_git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", *arguments]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "git is not installed")
