"""Invented names: none is a real bird's."""

from __future__ import annotations

from collections.abc import Mapping

from fieldmark.fieldguide.marks import MARK_COLOURS, MARKS

__all__ = ["NUM_GENUS_NAMES", "genus_name", "latin_genus", "latin_species", "species_name"]

_STARTS = ("M", "Br", "T", "W", "St", "Gr", "Fl", "R", "D", "N", "V", "Wh", "Sp", "Gl", "Tr", "L")
_ENDS = ("arl", "indle", "orrel", "ippet", "ennick", "esper", "awlet", "elkin", "ontle", "urrow", "eddle", "arrick")
NUM_GENUS_NAMES = len(_STARTS) * len(_ENDS)


def genus_name(number: int) -> str:
    """One of `NUM_GENUS_NAMES` nouns, such as "Marl"."""
    return _STARTS[number % len(_STARTS)] + _ENDS[number // len(_STARTS)]


def latin_genus(noun: str) -> str:
    """ "Marl" → "Marlus"."""
    return noun.rstrip("e") + "us"


def species_name(noun: str, marks: Mapping[str, str]) -> str:
    """ "Golden-crowned Marl"; without a mark, "Plain Marl"."""
    if not marks:
        return f"Plain {noun}"
    words = [f"{colour.capitalize()}-{MARKS[mark].called}" for mark, colour in marks.items()]
    return f"{' '.join(words)} {noun}"


def latin_species(noun: str, marks: Mapping[str, str]) -> str:
    """ "Marlus auricoronatus"; without a mark, "Marlus simplex"."""
    epithets = "".join(MARK_COLOURS[colour][1] + MARKS[mark].epithet for mark, colour in marks.items())
    return f"{latin_genus(noun)} {epithets or 'simplex'}"
