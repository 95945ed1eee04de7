"""The columns of the table of predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from person_attributes.errors import ImageError
from person_attributes.labels import LabelMap
from person_attributes.serving.classifier import Answer
from person_attributes.serving.requests import RequestOptions

PATH, ERROR = "path", "error"


@dataclass(frozen=True)
class Column:
    """A column with a value of each answer.

    Attributes:
        name: Its name in the table.
        keys: Where its value is in an answer.
        is_number: Whether its values are numbers.
    """

    name: str
    keys: tuple[str | int, ...]
    is_number: bool = False

    def format(self, answer: Answer) -> str:
        """Returns the value of an answer. A number has all its digits."""
        value: Any = answer
        for key in self.keys:
            value = value[key]
        return repr(value) if self.is_number else str(value)


def list_columns(label_map: LabelMap, options: RequestOptions) -> list[Column]:
    """Returns the columns of all heads, between the path and the error of an image."""
    columns = []
    for head in options.select(label_map.heads):
        classes = label_map.classes[head]
        columns += _name_pair(head, (head,))
        for rank in range(1, min(int(options.top_k), len(classes))):
            columns += _name_pair(f"{head}_top_{rank + 1}", (head, "top", rank))
        if options.all_probabilities:
            columns += [
                Column(f"{head}_probability_{name}", (head, "probabilities", name), is_number=True)
                for name in classes
            ]
    return columns


def _name_pair(name: str, keys: tuple[str | int, ...]) -> list[Column]:
    return [
        Column(name, (*keys, "label")),
        Column(f"{name}_probability", (*keys, "probability"), is_number=True),
    ]


def format_row(name: str, result: Answer | ImageError, columns: Sequence[Column]) -> list[str]:
    """Returns the cells of an image."""
    if isinstance(result, ImageError):
        return [name, *[""] * len(columns), str(result)]
    return [name, *(column.format(result) for column in columns), ""]
