"""The path of an image, composed of columns of its row."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FIELD = re.compile(r"\{([^{}]*?)(?::0(\d{1,2})d?)?\}")


@dataclass(frozen=True)
class ImagePath:
    """A pattern such as `images/{file}.jpg`.

    Attributes:
        fields: `(text before the field, column, number of digits)` of each field. A shorter value
            is padded with zeros to the number of digits.
        end: The text after the last field.
    """

    fields: tuple[tuple[str, str, int], ...]
    end: str

    @classmethod
    def parse(cls, pattern: str) -> "ImagePath":
        """Parses a pattern; `{id:06}` is the column `id` with zeros in front, six digits long.

        Raises:
            ValueError: If it names no column, or a brace has no partner.
        """
        *parts, end = _FIELD.split(pattern)
        texts, columns, digits = parts[::3], parts[1::3], parts[2::3]
        if not columns or any(brace in text for text in (*texts, end) for brace in "{}"):
            raise ValueError(
                "expected a path with columns in braces, such as images/{file}.jpg. "
                f"Received: {pattern!r}. Put the name of a column in braces."
            )
        widths = [int(number or 0) for number in digits]
        return cls(tuple(zip(texts, columns, widths, strict=True)), end)

    @classmethod
    def of_column(cls, column: str) -> "ImagePath":
        """Returns the path that is the value of one column."""
        return cls((("", column, 0),), "")

    @property
    def columns(self) -> list[str]:
        return [column for _, column, _ in self.fields]

    def compose(self, columns: Mapping[str, Sequence[str]]) -> list[str]:
        """Composes the path of each row.

        Args:
            columns: `{column: cells}`.

        Returns:
            One path for each row; empty if one of its cells is empty.
        """
        rows = zip(*(columns[column] for column in self.columns), strict=True)
        return [self._fill(cells) if all(cells) else "" for cells in rows]

    def _fill(self, cells: Sequence[str]) -> str:
        filled = zip(self.fields, cells, strict=True)
        return "".join(text + cell.zfill(digits) for (text, _, digits), cell in filled) + self.end
