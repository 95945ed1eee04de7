"""Class names in any script: an installed font draws them, or one line says what to install."""

from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from person_attributes.drawing import fonts
from person_attributes.drawing.figures import new_figure, to_png, to_svg


def _build_font(path: Path, characters: str) -> None:
    """Writes a font whose glyphs are filled squares."""
    names = {ord(character): f"glyph{ord(character)}" for character in characters}
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys((".notdef", *names.values()), square))
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", *names.values()), (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular", "psName": path.stem})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture(autouse=True)
def _forget() -> None:
    fonts._find_families.cache_clear()
    fonts._reported.clear()


def _draw(*names: str) -> str:
    figure = new_figure(3, 2)
    axis = figure.subplots()
    axis.barh(range(len(names)), 1)
    axis.set_yticks(range(len(names)), names)
    axis.set_title(names[0])
    return to_svg(figure)


def test_installed_fonts_draw_what_matplotlib_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _build_font(tmp_path / "SquaresSans.ttf", "男")
    _build_font(tmp_path / "ThaiSans.ttf", "ช")
    (tmp_path / "DamagedSans.ttf").write_bytes(b"no font")
    installed = [str(path) for path in tmp_path.iterdir()]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: installed)
    svg = _draw("男 and man", "ช", "woman")
    assert "SquaresSans-" in svg
    assert "ThaiSans-" in svg
    assert "DejaVuSans-" in svg
    assert "LastResort" not in svg
    assert not capsys.readouterr().out


def test_scripts_without_a_font_are_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Warnings are errors here, so there is none for each glyph either."""
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    for _ in range(2):
        _draw("男", "पुरुष", "man", "🔴 red", "👩")
    (line,) = capsys.readouterr().out.splitlines()
    assert "no installed font has the characters of CJK, DEVANAGARI, symbols" in line
    assert "Install fonts such as Noto Sans" in line


def test_other_figures_do_not_depend_on_installed_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[str]:
        raise AssertionError("searches for fonts")

    monkeypatch.setattr(font_manager, "findSystemFonts", refuse)
    assert "DejaVuSans-" in _draw("Größe $1", "Женщина", "a\nb")
    figure = new_figure(2, 1)
    figure.subplots().set_title("left\tright")
    assert to_png(figure)
