"""Runs the command line, as `python -m person_attributes` or `person-attributes`.

In the folder of a project, the package of that project runs, not the installed one: DVC digests the
project's code. The two differ in the copies that `dvc exp run --queue` and `--temp` make, and if
several clones share an environment.
"""

import gc
import os
import signal
import sys
from pathlib import Path

_GC_THRESHOLD = 50_000
"""Number of allocated objects that starts a garbage collection.

Imports and YAML files create many objects but no garbage. With Python's default of 700 or 2000,
collections take a fifth of the processor time of a short command.
"""


def main() -> int:
    """Runs the command line with the code of the project in this folder.

    Returns:
        The exit code; 128 plus the number of a signal that interrupted it, also during imports.
    """
    try:
        _switch_to_project()
        gc.set_threshold(_GC_THRESHOLD)
        from person_attributes.cli import main

        return main()
    except KeyboardInterrupt as error:
        print("interrupted. Run the command again.", file=sys.stderr)
        return 128 + int(error.args[0] if error.args else signal.SIGINT)


def _switch_to_project() -> None:
    """Replaces this process with one that imports the project's package, if that is another one."""
    source = Path.cwd() / "src"
    package = source / "person_attributes"
    if not (Path("dvc.yaml").exists() and package.is_dir()):
        return
    _refuse_path(str(Path.cwd()))
    if package.samefile(Path(__file__).parent):
        return
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if paths[0] == str(source):
        print(
            f"{package}: expected to run this package. Received: {Path(__file__).parent}. "
            "Run Python without -E and -I: with them, it ignores PYTHONPATH.",
            file=sys.stderr,
        )
        sys.exit(2)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(source), *filter(None, paths)])
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _refuse_path(path: str) -> None:
    """Refuses a project in a folder whose path PYTHONPATH or DVC does not accept."""
    refused = [character for character in (os.pathsep, "{", "}") if character in path]
    if refused:
        print(
            f"{path}: expected a path that PYTHONPATH and DVC accept. Received: one with "
            f"{refused[0]!r}. Rename the folder.",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
