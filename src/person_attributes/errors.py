"""The hierarchy of all errors that a user can cause.

PersonAttributesError
├── ParamsError            params.yaml is missing, malformed or inconsistent
├── ProjectError           the project's folder does not meet the requirements of DVC
├── DataError
│   ├── SourceError        the folder or archive of the data cannot be read
│   ├── AnnotationsError   a table of annotations or images is invalid
│   ├── ImageError         an image cannot be decoded
│   └── SplitError         a split does not match its records, or rows would leak
├── TrainingError          a phase cannot start, or fails
│   ├── UntrainableError   the parameters do not work: the loss diverges or memory runs out
│   ├── StoppedError       a signal ended a phase after a checkpoint
│   └── SurpassedError     a sweep pruned a trial
├── BusyError              another process runs the same stage, or writes the same file
├── ComparisonError        two evaluations cannot be found or compared
│   └── OtherRowsError     the evaluations used different rows
├── TrackingError          MLflow cannot be reached
├── RegistryError          a model cannot be exported, checked or registered
└── ServingError           a server cannot start

A message contains where, what, the expected and the received value, and what to do. The command
line prints it without a stack trace and exits with 2, or with 128 plus the number of a signal.
"""

import difflib
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def suggest(received: str, known: "Sequence[str]") -> str:
    """Returns ` Did you mean 'name'?` with the most similar name, or an empty string.

    Names that differ only in the case of letters are the most similar ones. If the names look
    alike, it adds the first character in which they differ.
    """
    same = [name for name in known if name.casefold() == received.casefold()]
    near = same or difflib.get_close_matches(received, known, n=1)
    return f" Did you mean {near[0]!r}?{_explain(received, near[0])}" if near else ""


def _explain(received: str, expected: str) -> str:
    """Names the first characters that differ, if both are of different scripts or kinds."""
    if len(received) != len(expected):
        return ""
    for ours, theirs in zip(received, expected, strict=True):
        names = [unicodedata.name(one, repr(one)) for one in (ours, theirs)]
        if ours != theirs:
            is_visible = ours.isascii() and theirs.isascii()
            is_same_script = names[0].partition(" ")[0] == names[1].partition(" ")[0]
            if is_visible or is_same_script:
                return ""
            return f" The first has {names[0]} where the second has {names[1]}."
    return ""


def one_line(message: object, max_length: int) -> str:
    """Joins the lines of a message and truncates it."""
    return " ".join(str(message).split())[:max_length]


class PersonAttributesError(Exception):
    """Base of all errors that a user can fix.

    Attributes:
        exit_code: Exit code of the command.
    """

    exit_code = 2


class ParamsError(PersonAttributesError):
    """`params.yaml` is missing, malformed or inconsistent."""


class ProjectError(PersonAttributesError):
    """The project's folder does not meet the requirements of DVC."""


class DataError(PersonAttributesError):
    """The user's data is invalid."""


class SourceError(DataError):
    """The folder or archive of the data cannot be read."""


class AnnotationsError(DataError):
    """A table of annotations or images, or one of its rows, is invalid."""


class ImageError(DataError):
    """An image cannot be decoded."""


class SplitError(DataError):
    """A split does not match its records, or rows would leak between its parts."""


class TrainingError(PersonAttributesError):
    """A phase cannot start, or fails."""


class UntrainableError(TrainingError):
    """The parameters of a phase cannot be trained: the loss diverges or memory runs out."""


class StoppedError(TrainingError):
    """A signal ended a phase after a checkpoint; the exit code is 128 plus the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class SurpassedError(TrainingError):
    """A sweep pruned a trial."""


class BusyError(PersonAttributesError):
    """Another process runs the same stage in the same folder, or writes the same file."""


class ComparisonError(PersonAttributesError):
    """Two evaluations cannot be found or compared."""


class OtherRowsError(ComparisonError):
    """Two evaluations used different rows."""


class TrackingError(PersonAttributesError):
    """MLflow cannot be reached."""


class RegistryError(PersonAttributesError):
    """A model cannot be exported, checked or registered."""


class ServingError(PersonAttributesError):
    """A server cannot start."""
