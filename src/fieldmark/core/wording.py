"""Numbers, lists, times and strange values in words, and advice that is given in several places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["CROSSFIT", "OBEYED", "brief", "counted", "duration", "first_few", "not_installed", "shown", "written"]

OBEYED = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]")
"""What a terminal does not show but obeys: control characters, line breaks, and marks that turn the direction round."""
CROSSFIT = "fieldmark train RUN --set protocol=crossfit --out NEW"
"""How a run's training images can all serve as held-out ones. It takes the recipe that a budget chose, too, whereas
`protocol=crossfit` beside --budget is refused."""
_BRIEF = 80


def shown(text: str) -> str:
    r"""Text as one line that is shown and not obeyed: an escape character in a name becomes the four letters \x1b."""
    return OBEYED.sub(lambda found: repr(found[0])[1:-1], text)


def brief(value: object) -> str:
    """A value in a message, as Python writes it, but never longer than a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists in lists
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= _BRIEF else f"{text[: _BRIEF - 1]}…"


def first_few(names: Iterable[str], limit: int = 3) -> str:
    """The first names of a list that may be long: "a, b, c and 17 more"."""
    listed = list(names)
    rest = f" and {len(listed) - limit:,} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


def counted(number: int, noun: str) -> str:
    """A number and what it counts: "1 image", "2,889 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def not_installed(packages: Sequence[str]) -> str:
    """Packages that are missing: "onnx and onnxscript, which are not installed"."""
    *before, last = packages
    listed = f"{', '.join(before)} and {last}" if before else last
    return f"{listed}, which {'are' if before else 'is'} not installed"


def duration(seconds: float) -> str:
    """A time as people say it: "0.4 s", "40 s", "1 min 37 s", "12 min", "3 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if (whole := round(seconds)) < 90:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def written(text: str) -> str:
    r"""Text as a file in UTF-8 can hold it: of a name in another encoding, bytes that are no UTF-8 become \xff."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # half a character, of which no byte is known
            return text.encode("utf-8", "backslashreplace").decode()
    return text
