"""The page about photographs that do not look like the others of a class that is enrolled.

Shapes: N photographs, S side of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.wording import counted
from fieldmark.pages import picture, render

__all__ = ["compose_odd"]


def compose_odd(name: str, paths: Sequence[str], pictures: Sequence[NDArray[np.uint8]], odd: NDArray[np.bool_]) -> str:
    """The page as HTML: pictures (S, S, 3) of the photographs that are odd (N,), and of the others."""
    shown = [(path, picture(pixels)) for path, pixels in zip(paths, pictures, strict=True)]
    verb = "does" if odd.sum() == 1 else "do"
    groups = {
        "Unlike the others": [one for one, is_odd in zip(shown, odd, strict=True) if is_odd],
        "The others": [one for one, is_odd in zip(shown, odd, strict=True) if not is_odd],
    }
    said = f"{counted(int(odd.sum()), 'photograph')} {verb} not look like the others."
    return render("odd.html", name=name, said=said, groups=list(groups.items()))
