"""Numbers, lists and times in words."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["counted", "duration", "first_few"]


def first_few(names: Iterable[str], limit: int = 3) -> str:
    """The first names of a list that may be long: "a, b, c and 17 more"."""
    listed = list(names)
    rest = f" and {len(listed) - limit:,} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


def counted(number: int, noun: str) -> str:
    """A number and what it counts: "1 image", "2,889 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """A time as people say it: "0.4 s", "40 s", "12 min", "3 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
