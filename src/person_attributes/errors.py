"""Every error that a user can cause, in one tree.

PersonAttributesError
├── ParamsError            params.yaml is missing, malformed or contradicts itself
├── ProjectError          the project's folder is not as DVC needs it
├── DataError
│   ├── SourceError        the folder or archive of the data cannot be read
│   ├── AnnotationsError   the annotations CSV or its rows are not as declared
│   ├── ImageError         an image cannot be decoded
│   └── SplitError         a split does not fit its records, or rows would leak
├── TrainingError          a phase cannot start or went astray
│   ├── UntrainableError   its numbers cannot be trained: the loss diverges, memory does not suffice
│   ├── StoppedError       a signal ended a phase, after a checkpoint
│   └── SurpassedError     a sweep ended a trial that fell behind
├── BusyError              another process runs the same stage
├── ComparisonError        two evaluations cannot be found or compared
│   └── OtherRowsError     they were not made on the same rows
├── TrackingError          MLflow cannot be reached
└── RegistryError          a model cannot be exported, checked or registered

A message says where, what, what was expected, what was received, and what to do. The command line
prints one line for each and exits with 2; after a signal with 128 and its number.
"""

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def suggest(received: str, known: "Sequence[str]") -> str:
    """Words the nearest known name as ` Did you mean 'it'?`; nothing where none is near."""
    near = difflib.get_close_matches(received, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def one_line(said: object, longest: int) -> str:
    """Puts what a library says, often in many lines, into the start of one."""
    return " ".join(str(said).split())[:longest]


class PersonAttributesError(Exception):
    """Base of all errors that a user can mend.

    Attributes:
        exit_code: Of the command that it ends.
    """

    exit_code = 2


class ParamsError(PersonAttributesError):
    """`params.yaml` is missing, malformed or contradicts itself."""


class ProjectError(PersonAttributesError):
    """The project's folder is not as DVC needs it."""


class DataError(PersonAttributesError):
    """The user's data is not as declared."""


class SourceError(DataError):
    """The folder or archive of the data cannot be read."""


class AnnotationsError(DataError):
    """The annotations CSV or its rows are not as declared."""


class ImageError(DataError):
    """An image cannot be decoded."""


class SplitError(DataError):
    """A split does not fit its records, or rows would leak between its parts."""


class TrainingError(PersonAttributesError):
    """A phase cannot start or went astray."""


class UntrainableError(TrainingError):
    """A phase cannot be trained with its numbers: the loss diverges, or memory does not suffice."""


class StoppedError(TrainingError):
    """A signal ended a phase, after a checkpoint; the exit code is 128 more, as shells have it."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class SurpassedError(TrainingError):
    """A sweep ended a trial that fell behind the others."""


class BusyError(PersonAttributesError):
    """Another process runs the same stage in the same folder."""


class ComparisonError(PersonAttributesError):
    """Two evaluations cannot be found, or not be compared."""


class OtherRowsError(ComparisonError):
    """Two evaluations were not made on the same rows."""


class TrackingError(PersonAttributesError):
    """MLflow cannot be reached."""


class RegistryError(PersonAttributesError):
    """A model cannot be exported, checked or registered."""
