"""Runs the command line as `python -m person_attributes`."""

import sys

from person_attributes.cli import main

sys.exit(main())
