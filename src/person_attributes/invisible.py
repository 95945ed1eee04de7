"""Removes characters that have no width, which programs leave in text that is copied from them."""

import re

# Soft hyphen, zero-width space, marks of the direction of text, word joiner, byte order mark. The
# zero-width joiner is not among them: it joins emoji and letters of some scripts.
_CHARACTERS = "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"

_INSIDE = re.compile(f"[{_CHARACTERS}]+")
_AROUND = re.compile(rf"^[\s{_CHARACTERS}]+|[\s{_CHARACTERS}]+$")


def strip_invisible(text: str) -> str:
    """Removes whitespace and characters without width around a text."""
    return text.strip() if text.isascii() else _AROUND.sub("", text)


def remove_invisible(text: str) -> str:
    """Removes all characters without width."""
    return text if text.isascii() else _INSIDE.sub("", text)
