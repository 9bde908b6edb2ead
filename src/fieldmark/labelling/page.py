"""The page on which a person decides: what it shows, as plain items. `pages/labelling.js` is what happens on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fieldmark.core.errors import ImageError
from fieldmark.data.decode import decode
from fieldmark.pages import picture, render

__all__ = ["Beside", "Item", "compose_labelling", "pictured", "shown_file"]

Kind = Literal["doubt", "next"]
_SIDE, _SMALL = 420, 200
"""Pixels of the longer side: of the photograph, and of those beside it."""


@dataclass(frozen=True)
class Beside:
    """A picture beside the photograph, which helps to decide."""

    picture: str | None
    title: str
    label: str


@dataclass(frozen=True)
class Item:
    """A photograph that is decided about."""

    path: str
    label: str | None
    """Its label; None if it has none yet."""
    candidates: tuple[str, ...]
    """Names that a digit gives, the likeliest first."""
    group: str
    """What it is shown together with in the grid."""
    picture: str | None
    """For `<img src>`; None if it cannot be read."""
    facts: tuple[str, ...] = ()
    """What is known about it, a sentence each."""
    beside: tuple[Beside, ...] = ()


def compose_labelling(
    kind: Kind, items: Sequence[Item], classes: Sequence[str], *, title: str, intro: str, file: str, then: str
) -> str:
    """The page as HTML. It saves its decisions as `file`; `then` is the command that uses them."""
    told = hashlib.sha256("\n".join([kind, title, *(item.path for item in items)]).encode("utf-8", "surrogateescape"))
    return render(
        "labelling.html",
        kind=kind,
        title=title,
        intro=intro,
        file=file,
        then=then,
        items=len(items),
        page={
            "kind": kind,
            "key": told.hexdigest()[:16],
            "file": file,
            "classes": list(classes),
            "items": [asdict(item) for item in items],
        },
    )


def shown_file(file: Path, *, small: bool = False, grey_bits: int | None = None) -> str | None:
    """The picture in a file, for `<img src>`; None if it cannot be read."""
    side = _SMALL if small else _SIDE
    try:
        return pictured(decode(file, short_side=side, grey_bits=grey_bits).pixels, small=small)
    except ImageError:
        return None


def pictured(pixels: NDArray[np.uint8], *, small: bool = False) -> str:
    """Pixels (H, W, 3) for `<img src>`."""
    source: Markup = picture(pixels, side=_SMALL if small else _SIDE, quality=72)
    return str(source)
