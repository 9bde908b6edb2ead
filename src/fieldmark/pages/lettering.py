"""`legible`: the texts of a figure in fonts that have their letters, since class names are in any script.

matplotlib writes with DejaVu Sans, which has Latin, Greek, Cyrillic and Arabic letters, and it puts right-to-left text
in order. For other letters the fonts of this machine are searched. What none of them has is written as code points,
which keep two names apart, and the user hears once which Debian packages would help.
"""

from __future__ import annotations

import contextlib
import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from fieldmark.core.errors import FieldmarkWarning

__all__ = ["legible", "shortened", "wrapped", "written"]

_BASE = "sans-serif"
_PACKAGES = {"CJK": "fonts-noto-cjk", "EMOJI": "fonts-symbola", "": "fonts-noto-core"}
"""Debian packages by the kind of letter that they have. matplotlib cannot draw with fonts of coloured emoji."""
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH")
_FIRST_EMOJI = 0x1F000
_BOXES = "Last Resort"
"""A font that has a box for every letter."""
_LEFT_TO_RIGHT, _APART, _END_OF_APART = "\u200e", "\u2068", "\u2069"
"""Unicode's marks for the direction of text; they are not seen."""
_UNSEEN = {"\n", _LEFT_TO_RIGHT, _APART, _END_OF_APART}
_told: set[str] = set()


def legible(figure: Figure) -> None:
    """Give each text of a figure fonts that have its letters; see `written` for letters that none has.

    It comes last, before the figure is drawn.
    """
    for artist in figure.findobj(Text):
        assert isinstance(artist, Text)
        text = written(artist.get_text())
        if _goes_left(text):  # otherwise a name at the start of a line would turn the whole line around: "% 99"
            text = "\n".join(_LEFT_TO_RIGHT + line for line in text.split("\n"))
        if text != artist.get_text():
            artist.set_text(text)
        if families := _fonts_for(_lacking(text)).families:
            artist.set_fontfamily([_BASE, *families])


def written(text: str) -> str:
    """Text as a picture can show it: letters that no font of this machine has are code points, "[U+72D0]".

    Warns once in a process of each package that would help.
    """
    nowhere = _fonts_for(_lacking(text)).nowhere
    _tell(nowhere)
    return _spelt(text, nowhere) if nowhere else text


def shortened(name: str, most: int = 26) -> str:
    """A name as a picture can show it, in the room of at most `most` Latin letters: the middle gives way to "…".

    One that is written from right to left is set apart, so that it does not draw a number behind it to its other side.
    """
    name = written(name)
    left, right = name[: len(name) // 2], name[len(name) // 2 :]
    if _room(name) > most:
        while _room(left + right) >= most:
            left, right = (left[:-1], right) if _room(left) > _room(right) else (left, right[1:])
        name = f"{left.rstrip()}…{right.lstrip()}"
    return f"{_APART}{name}{_END_OF_APART}" if _goes_left(name) else name


def wrapped(text: str, most: int) -> str:
    """Text as a picture can show it, in lines with room for `most` Latin letters."""
    lines = [""]
    for word in written(text).split():
        longer = f"{lines[-1]} {word}".lstrip()
        lines[-1:] = [longer] if _room(longer) <= most or not lines[-1] else [lines[-1], word]
    return "\n".join(lines)


def _goes_left(text: str) -> bool:
    """Whether there are letters that are written from right to left."""
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)


def _room(text: str) -> int:
    """Widths of a Latin letter; East Asian letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


# ---- fonts


class _Fonts:
    """The families that have some letters, and the letters that no font has."""

    def __init__(self, families: tuple[str, ...], nowhere: frozenset[str]) -> None:
        self.families = families
        self.nowhere = nowhere


def _lacking(text: str) -> frozenset[str]:
    """The letters that matplotlib's own font does not have."""
    base = findfont(FontProperties(family=[_BASE]))
    return frozenset(letter for letter in text if letter not in _UNSEEN and not _has(base, letter))


@cache
def _fonts_for(letters: frozenset[str]) -> _Fonts:
    """As few families as needed; where several do, the one that comes first."""
    families: list[str] = []
    while letters:
        best = max(_others(), key=lambda font: sum(_has(font.fname, letter) for letter in letters), default=None)
        found = {letter for letter in letters if best and _has(best.fname, letter)}
        if not best or not found:
            break
        families.append(best.name)
        if not any(font.name == best.name and str(font.weight) in ("bold", "700") for font in fontManager.ttflist):
            fontManager.ttflist.append(replace(best, weight=700))  # matplotlib would complain that it is not bold
        letters -= found
    return _Fonts(tuple(families), letters)


@cache
def _others() -> tuple[FontEntry, ...]:
    """The upright fonts of this machine, those without serifs first. matplotlib remembers which fonts there are, so
    newer ones are added."""
    known = {font.fname for font in fontManager.ttflist}
    for file in findSystemFonts():
        if file not in known:
            with contextlib.suppress(Exception):  # of a kind that matplotlib cannot draw with, such as coloured emoji
                fontManager.addfont(file)
    upright = [
        font
        for font in fontManager.ttflist
        if font.style == "normal" and not font.name.startswith(_BOXES) and Path(font.fname).is_file()
    ]
    return tuple(sorted(upright, key=lambda font: ("Sans" not in font.name, font.weight != 400, font.name)))


@cache
def _font(file: str) -> FT2Font | None:
    try:
        return FT2Font(file)
    except Exception:  # a damaged font has no letters
        return None


def _has(file: str, letter: str) -> bool:
    font = _font(file)
    return font is not None and font.get_char_index(ord(letter)) != 0


# ---- letters that no font has


def _spelt(text: str, nowhere: frozenset[str]) -> str:
    """ "狐狸 fox" → "[U+72D0 U+72F8] fox"; marks that only change how the letter before them looks are left out."""
    spelt = ""
    for missing, letters in groupby(text, key=nowhere.__contains__):
        run = [letter for letter in letters if not missing or unicodedata.category(letter) not in ("Cf", "Mn")]
        spelt += "".join(run) if not missing or not run else f"[{' '.join(f'U+{ord(one):04X}' for one in run)}]"
    return spelt


def _tell(nowhere: Iterable[str]) -> None:
    packages = {_package(letter) for letter in nowhere if unicodedata.category(letter)[0] != "C"} - _told
    if packages:
        _told.update(packages)
        warnings.warn(
            "No font on this machine has some letters of the names in a picture, so their code points are shown. On "
            f"Debian or Ubuntu, this would help: apt install {' '.join(sorted(packages))}",
            FieldmarkWarning,
            stacklevel=3,
        )


def _package(letter: str) -> str:
    if ord(letter) >= _FIRST_EMOJI and unicodedata.category(letter) in ("So", "Sk"):
        return _PACKAGES["EMOJI"]
    return _PACKAGES["CJK" if unicodedata.name(letter, "").startswith(_EAST_ASIAN) else ""]
