"""Preview: a page of training images as a recipe augments them, before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fieldmark.core.claims import check_replaceable
from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import write_bytes
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.columns import Columns
from fieldmark.data.sets import find
from fieldmark.learning.fitting.curriculum import training_samples
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
    out: Path | str | None = None,
    root: Path | str | None = None,
    columns: Columns | None = None,
    overrides: Sequence[str] = (),
    count: int = 8,
    listener: Listener | None = None,
) -> Path:
    """Write a page of `count` training images, each unchanged and as the first five epochs see it, and return its path.

    Boxes and key points are drawn where they are known. The page shows what training with this recipe and seed sees,
    except for the mixing of whole batches and the crops of a method. By default, `out` is
    previews/<name of the data>.html. Raises FieldmarkError; StorageError if that would replace a file of the user's.
    """
    listener = listener or Listener()
    path = Path(out) if out is not None else _place(data)
    check_replaceable(path)  # before the work
    resolved = resolve_recipe(recipe, overrides=overrides)
    if not isinstance(data, Catalog):
        with relayed_warnings(listener):
            data = find(data, root, tell=listener.note)
    prepared = prepare(data, resolved, listener, columns=columns)
    check_poses(resolved, prepared, listener)
    flip = decide_flip(None, resolved, prepared, listener)
    rows = prepared.catalog.rows("train")
    poses = bind_poses(resolved, prepared, rows, flip=flip)
    changed = rows if poses is None else np.setdiff1d(rows, poses.unposed())
    size = resolved.images.train_size
    samples = training_samples(resolved, prepared, rows, flip=flip, size=size, interpolation="bicubic")
    shown = spread(prepared.catalog.labels, changed, count, resolved.seed)
    page = compose_preview(prepared.catalog, samples, shown.tolist(), resolved, flip=flip)
    write_bytes(path, page.encode())
    listener.hear(Done("preview", path.parent))
    return path


def _place(data: Path | str | Catalog) -> Path:
    """previews/<name of the data>.html"""
    place = Path(data.name if isinstance(data, Catalog) else data).resolve()
    return Path("previews") / f"{place.name if place.is_dir() else place.stem}.html"
