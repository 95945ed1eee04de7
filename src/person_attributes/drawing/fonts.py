"""Finds installed fonts for characters that matplotlib's own font lacks."""

import functools
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

_OWN_FONT = "DejaVu Sans"
"""The font that is part of matplotlib, so that figures are the same on every machine."""


def set_fonts(figure: "Figure") -> None:
    """Adds installed fonts to the texts that have characters which matplotlib's own font lacks.

    Prints a line, once, about characters that no installed font has.
    """
    texts = [(text, _find_missing(text.get_text())) for text in _list_texts(figure)]
    families = _find_families(frozenset().union(*(missing for _, missing in texts)))
    for text, missing in texts:
        if missing:
            text.set_fontfamily([_OWN_FONT, *families])


def _list_texts(figure: "Figure") -> "list[Text]":
    from matplotlib.text import Text

    for axis in figure.axes:
        for labelled in (axis.xaxis, axis.yaxis):
            labelled.get_ticklabels()  # writes the labels, which savefig would do later
    return figure.findobj(Text)


def _find_missing(text: str) -> set[str]:
    """Returns the visible characters that matplotlib's own font lacks."""
    if text.isascii():
        return set()
    from matplotlib import font_manager

    own = font_manager.findfont(_OWN_FONT)
    visible = {character for character in text if character.isprintable()}
    return visible - _find_covered(own, visible)


@functools.cache
def _find_families(characters: frozenset[str]) -> tuple[str, ...]:
    """Returns installed families that together have the characters, as far as there are any."""
    if not characters:
        return ()
    from matplotlib import font_manager

    families, missing = [], set(characters)
    # Not matplotlib's list of fonts: it is a file that may be older than a font.
    for path in sorted(font_manager.findSystemFonts(), key=_rank):
        if covered := _find_covered(path, missing):
            font_manager.fontManager.addfont(path)
            families.append(font_manager.get_font(path).family_name)
            missing -= covered
        if not missing:
            return tuple(families)
    _report(missing)
    return tuple(families)


def _rank(path: str) -> tuple[bool, bool, str]:
    """Returns a sort key: regular weights without serifs first."""
    name = Path(path).name.lower()
    return "sans" not in name, "regular" not in name, path


def _find_covered(path: str, characters: Iterable[str]) -> set[str]:
    """Returns the characters that a font file has."""
    from matplotlib import font_manager

    try:
        font = font_manager.get_font(path)
    except (OSError, RuntimeError):  # a damaged file, or a kind that matplotlib cannot read
        return set()
    if not font.scalable:
        return set()
    return {character for character in characters if font.get_char_index(ord(character))}


_reported: set[str] = set()


def _report(missing: Iterable[str]) -> None:
    """Prints which scripts have no font, once each."""
    scripts = set(map(_name_script, missing)) - _reported
    if scripts:
        _reported.update(scripts)
        print(
            f"figures: no installed font has the characters of {', '.join(sorted(scripts))}, for "
            f"example {min(missing)}. They are drawn as boxes. Install fonts such as Noto Sans, "
            "and Symbola for emoji (Debian: apt-get install fonts-noto-core fonts-noto-cjk "
            "fonts-symbola)."
        )


def _name_script(character: str) -> str:
    """Returns the first word of the name of a letter; names of symbols do not contain a script."""
    if unicodedata.category(character)[0] not in "LM":
        return "symbols"
    return unicodedata.name(character, "UNNAMED").partition(" ")[0]
