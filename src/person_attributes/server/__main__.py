"""Serves the files of a model: `python -m person_attributes.server FOLDER`, in a container.

It needs only the packages of the model, not those of the project.
"""

import argparse
import signal
import sys
from pathlib import Path

from person_attributes.errors import PersonAttributesError
from person_attributes.server.settings import ServerSettings, list_options


def main() -> int:
    """Serves until SIGTERM.

    Returns:
        0, or 2 if the server cannot start.
    """
    # The first process of a container would ignore it while the imports run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    parser = argparse.ArgumentParser("python -m person_attributes.server")
    parser.add_argument("folder", help="the files of the model", type=Path)
    for option in list_options():
        parser.add_argument(option.flag, help=option.help, default=option.default, type=option.type)
    arguments = vars(parser.parse_args())
    from person_attributes.server.run import serve

    try:
        serve(arguments.pop("folder"), ServerSettings(**arguments))
    except PersonAttributesError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
