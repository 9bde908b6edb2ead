"""Pictures to show beside an answer: training images of a class, small and without what a camera wrote into them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import final

import numpy as np

from fieldmark.core.errors import ImageError, RunError
from fieldmark.data.decode import decode
from fieldmark.pages import picture
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.opening import opened_run

__all__ = ["Examples", "small"]

NUM_EXAMPLES = 3
_SIDE = 200


@final
class Examples:
    """The training images of a run, by class; there are none of a bundle alone, or where the images are gone."""

    def __init__(self, bundle: Bundle, root: Path | None = None) -> None:
        """`root` is the folder of the images, if they were moved."""
        self._grey_bits = bundle.images.grey_depth
        self._files: dict[str, list[Path]] = {}
        run = opened_run(bundle.folder) if bundle.folder else None
        if run is None or not run.exists or not (data := run.data()):
            return
        folder = root or Path(data["root"])
        try:
            rows = run.images()
        except RunError:  # it is told where it matters; an answer needs no examples
            return
        for row in rows:
            if row["split"] == "train" and "label" in row:
                self._files.setdefault(row["label"], []).append(folder / row["path"])

    @lru_cache(maxsize=1024)  # noqa: B019  # a service has one
    def of(self, label: str) -> tuple[str, ...]:
        """A few, spread evenly, as data URLs."""
        files = self._files.get(label, [])
        chosen = np.unique(np.linspace(0, len(files) - 1, min(NUM_EXAMPLES, len(files))).round().astype(int))
        shown = (small(files[at], self._grey_bits) for at in chosen)
        return tuple(one for one in shown if one)


def small(file: Path, grey_bits: int | None) -> str | None:
    """The picture in a file as a data URL; None if it cannot be read."""
    try:
        return str(picture(decode(file, short_side=_SIDE, grey_bits=grey_bits).pixels, side=_SIDE, quality=75))
    except ImageError:
        return None
