"""Questions to git, which may be missing, or refuse a repository of another user."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from person_attributes.errors import one_line


@dataclass(frozen=True)
class Revision:
    """The answer of git on a revision.

    Attributes:
        commit: Its id; empty if there is no such revision, or if git does not answer.
        prefix: The path of the project in its repository, which ends with a slash or is empty.
        fault: Why git does not answer; empty if it does.
    """

    commit: str
    prefix: str
    fault: str


def find_revision(root: Path, name: str) -> Revision:
    """Asks git for a revision of the repository that contains a folder."""
    try:
        git = subprocess.run(
            ["git", "rev-parse", "--show-prefix", "--verify", "--quiet", f"{name}^{{commit}}"],
            cwd=root,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        return Revision("", "", "git is not installed")
    prefix, _, commit = os.fsdecode(git.stdout).partition("\n")
    fault = one_line(os.fsdecode(git.stderr), 300).rstrip(".") if git.returncode else ""
    return Revision(commit.strip(), prefix, fault)
