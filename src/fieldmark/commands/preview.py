"""Preview: training images as a recipe augments them → one page to look at, before anything is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fieldmark.core.listener import Listener, relayed_warnings
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import write_bytes
from fieldmark.data.catalog import Catalog
from fieldmark.data.sets import find
from fieldmark.learning.fitting.fit import training_samples
from fieldmark.learning.fitting.flips import decide_flip
from fieldmark.learning.fitting.poses import bind_poses, check_poses
from fieldmark.learning.fitting.prepare import prepare
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.reporting.preview_page import compose_preview, spread

__all__ = ["preview"]


def preview(
    data: Path | str | Catalog,
    recipe: str | Recipe = "finetune",
    *,
    out: Path | str,
    root: Path | str | None = None,
    overrides: Sequence[str] = (),
    count: int = 8,
    listener: Listener | None = None,
) -> Path:
    """Write a page of `count` training images, each as it is and as the first five epochs see it, and return it.

    Boxes and key points are drawn where they are known. What is shown is what training with this recipe and seed
    sees, except for what it does with whole batches (mixing) and in the method (crops). Raises FieldmarkError.
    """
    listener = listener or Listener()
    resolved = resolve_recipe(recipe, overrides=overrides)
    if not isinstance(data, Catalog):
        with relayed_warnings(listener):
            data = find(data, root, tell=listener.note)
    prepared = prepare(data, resolved, listener)
    check_poses(resolved, prepared, listener)
    flip = decide_flip(None, resolved, prepared, listener)
    rows = prepared.catalog.rows("train")
    poses = bind_poses(resolved, prepared, rows, flip=flip)
    changed = rows if poses is None else np.setdiff1d(rows, poses.unposed())
    size = resolved.images.train_size
    samples = training_samples(resolved, prepared, rows, flip=flip, size=size, interpolation="bicubic")
    shown = spread(prepared.catalog.labels, changed, count, resolved.seed)
    page = compose_preview(prepared.catalog, samples, shown.tolist(), resolved, flip=flip)
    path = Path(out)
    write_bytes(path, page.encode())
    return path
