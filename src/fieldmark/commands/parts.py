"""Parts: the centres that a model discovered, as key points, and a page that shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.bundle import Bundle, short_side
from fieldmark.commands.evaluate import EVERYTHING, catalog_of, opened_run
from fieldmark.commands.listener import Listener, relayed_warnings
from fieldmark.commands.part_centres import Sight, frames_to_pixels, object_sizes, part_sights
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.decode import Decoded, decode
from fieldmark.data.splits import first_few
from fieldmark.data.write import write_catalog
from fieldmark.errors import DataError, ImageError, RunError
from fieldmark.evaluation.part_names import Match, match_parts, numbered
from fieldmark.reporting import Example, compose_parts
from fieldmark.storage import write_bytes

__all__ = ["Parts", "parts"]

_SHOWN = 24
"""Photographs that the page draws on."""


@dataclass(frozen=True, repr=False)
class Parts:
    """Discovered parts of some images."""

    names: tuple[str, ...]
    """(M)."""
    catalog: Catalog
    """The images that could be read, with the parts' centres as their key points."""
    matches: tuple[Match, ...] = ()
    """How far parts are from the key points that they are called, or would be matched with, where the data has any."""
    num_measured: int = 0
    """Images that this was measured on: those that were not learnt from, if there are any."""
    table: Path | None = field(default=None, compare=False)
    page: Path | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"Parts({len(self.names)} parts of {len(self.catalog):,} images: {', '.join(self.names)})"


def parts(
    run: Path | str,
    data: Path | str | Catalog | None = None,
    *,
    root: Path | str | None = None,
    out: Path | str | None = None,
    split: str | None = None,
    listener: Listener | None = None,
) -> Parts:
    """Write the centres of a run's parts as key points: a table that `fieldmark.train` reads, and a page beside it.

    `data` is what `fieldmark.train` takes, the run's own unless given; its classes need not be the run's. All images,
    unless `split` names a part. `out` is the table, RUN/parts/<split>.csv unless given; the page has its name with
    .html. Where the data has key points, the distance of the parts to them is measured on images that were not learnt
    from. Raises RunError for a run whose method has no part maps, and DataError where there is no image.
    """
    listener = listener or Listener()
    opened = opened_run(Path(run))
    bundle = Bundle.load(run)
    if not bundle.parts:
        raise RunError(
            f"{run} has no parts: the method {bundle.recipe.method.name!r} makes no part maps",
            "Train with a method that does, such as --recipe part_discovery.",
        )
    with relayed_warnings(listener):
        catalog = catalog_of(opened, data, root, listener)
    part = split or EVERYTHING
    rows = np.arange(len(catalog)) if part == EVERYTHING else catalog.rows(part)
    if not len(rows):
        found = [*(name for name in SPLITS if len(catalog.rows(name))), EVERYTHING]
        raise DataError(f"{catalog.name} has no {part} part", f"Choose one with --split: {', '.join(found)}.")
    rows, centres, frames = _seen(bundle, catalog, rows, listener)
    annotated = catalog.select(rows)
    found_catalog = replace(annotated, keypoint_names=bundle.parts, keypoints=centres)
    measured = _not_learnt_from(annotated)
    matches = _matches(bundle, annotated, centres, frames, measured)
    table = Path(out) if out is not None else opened.folder / "parts" / f"{part}.csv"
    result = Parts(
        bundle.parts, found_catalog, matches, len(measured) if matches else 0, table, table.with_suffix(".html")
    )
    write_catalog(table, found_catalog)
    _write_page(result, bundle)
    return result


def _seen(
    bundle: Bundle, catalog: Catalog, rows: NDArray[np.int64], listener: Listener
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
    """The rows that can be read, their centres (N, M, 3) in pixels of the pictures, and the pictures' sizes (N, 2)."""
    kept: list[int] = []
    sizes: list[tuple[int, int]] = []
    unreadable: list[str] = []

    def views() -> Iterator[Tensor]:
        with listener.progress("Looking for parts") as tick:
            for done, row in enumerate(rows):
                try:
                    decoded = _decoded(bundle, catalog, int(row))
                except ImageError:
                    unreadable.append(catalog.paths[row])
                else:
                    kept.append(int(row))
                    sizes.append(decoded.size)
                    yield bundle.view(decoded.pixels)
                tick(done + 1, len(rows))

    centres = np.array([sight.centres for sight in part_sights(bundle.method, views())])
    if unreadable:
        names = first_few(unreadable)
        listener.warn(f"{len(unreadable):,} of {len(rows):,} images cannot be read and are left out: {names}")
    if not kept:
        raise DataError(f"None of the {len(rows):,} images can be read", f"Check {catalog.file(int(rows[0]))}.")
    frames = np.array(sizes, np.float64)
    return np.array(kept), frames_to_pixels(centres, frames, bundle.images), frames


def _decoded(bundle: Bundle, catalog: Catalog, row: int) -> Decoded:
    return decode(catalog.file(row), short_side=short_side(bundle.images))


def _not_learnt_from(catalog: Catalog) -> NDArray[np.int64]:
    """The rows outside the training part, or all where there is no other."""
    others = np.flatnonzero(catalog.splits != "train")
    return others if len(others) else np.arange(len(catalog))


def _matches(
    bundle: Bundle,
    catalog: Catalog,
    centres: NDArray[np.float32],
    frames: NDArray[np.float64],
    rows: NDArray[np.int64],
) -> tuple[Match, ...]:
    """Distances to the key points that parts are called after; where they are called otherwise, to the best match."""
    if catalog.keypoints is None:
        return ()
    names = catalog.keypoint_names
    called = [(part, names.index(name)) for part, name in enumerate(bundle.parts) if name in names]
    return tuple(
        match_parts(
            centres[rows],
            catalog.keypoints[rows],
            names,
            object_sizes(catalog, rows, frames[rows]),
            frames[rows],
            pairs=called or None,
        )
    )


def _write_page(found: Parts, bundle: Bundle) -> None:
    """Draw on photographs that are chosen by chance, of as many classes as there are."""
    catalog = found.catalog
    order = np.random.default_rng(0).permutation(len(catalog))
    first = {int(catalog.labels[row]): int(row) for row in order[::-1]}.values()
    chosen = list(dict.fromkeys([*first, *order.tolist()]))[:_SHOWN]
    squares = [bundle.view(_decoded(bundle, catalog, row).pixels) for row in chosen]
    sights: Sequence[Sight] = list(part_sights(bundle.method, squares))
    examples = [
        Example(
            square.permute(1, 2, 0).numpy(),
            sight.maps,
            sight.centres,
            catalog.classes[catalog.labels[row]],
            catalog.paths[row],
        )
        for row, square, sight in zip(chosen, squares, sights, strict=True)
    ]
    assert found.page is not None
    page = compose_parts(
        found.names,
        examples,
        found.matches,
        visible=(found.catalog.keypoints[..., 2].mean(axis=0).tolist() if found.catalog.keypoints is not None else []),
        num_images=len(catalog),
        num_measured=found.num_measured,
        has_background=bundle.method.has_background,
        title=catalog.name,
        unnamed=found.names == numbered(len(found.names)),
    )
    write_bytes(found.page, page.encode())
