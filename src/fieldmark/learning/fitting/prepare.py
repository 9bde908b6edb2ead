"""From a path to data that is ready for training: read, decode once, find near-duplicates, split."""

from __future__ import annotations

import warnings
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.views import short_side
from fieldmark.core.errors import DataError, DataWarning
from fieldmark.core.listener import Listener, relayed_warnings
from fieldmark.core.recipe import Recipe
from fieldmark.core.wording import counted, first_few
from fieldmark.data.cache import PixelStore, build_store
from fieldmark.data.catalog import SPLITS, Catalog, data_read
from fieldmark.data.decisions import Decisions, decided, undecided, with_samples
from fieldmark.data.readers.columns import Columns
from fieldmark.data.sets import read
from fieldmark.data.splits import VALIDATION_SHARE, cut_validation, duplicate_conflicts, following, split, units
from fieldmark.learning.fitting.greys import decide_grey_bits
from fieldmark.learning.fitting.task import check_labels
from fieldmark.runs.run import Run

__all__ = ["Prepared", "prepare"]

TEST_SHARE = 0.15


@dataclass(frozen=True)
class Prepared:
    """Data that is ready for training, without images that could not be read."""

    catalog: Catalog
    pixels: PixelStore
    """(N + M) of the catalogue's images, and behind them those of `unlabelled`."""
    clusters: NDArray[np.int64]
    """(N,) near-duplicates share a number."""
    unlabelled: tuple[str, ...] = ()
    """(M) paths of photographs without a label. None is a copy of another, or of an image of any split."""
    weights: NDArray[np.float32] | None = None
    """(N,) how much each image counts in training; all alike if not given."""

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """(N,) images that must stay together, by group or as near-duplicates, share a number."""
        return units(self.catalog, self.clusters)

    @property
    def sizes(self) -> NDArray[np.int32]:
        """(N, 2) widths and heights of the originals."""
        return self.pixels.shapes[: len(self.catalog), 2:]

    def learnt(self, recipe: Recipe) -> NDArray[np.int64]:
        """The rows of all images that the recipe's protocol learns from; in a cross-fit, of all folds."""
        splits = ("train", "val") if recipe.protocol == "crossfit" else ("train",)
        return np.flatnonzero(np.isin(self.catalog.splits, splits))


def prepare(
    data: Path | str | Catalog,
    recipe: Recipe,
    listener: Listener,
    run: Run | None = None,
    columns: Columns | None = None,
    decisions: Decisions | None = None,
    unlabelled: Sequence[Path] = (),
    settled: Container[str] = (),
) -> Prepared:
    """Read `data` (a table by these `columns`), carry out `decisions` about it, decode it once and split it as the
    recipe's protocol asks. `run` keeps what is decided on the way.

    Test images are fingerprinted, so that the same photograph in two splits is noticed; their pixels are not kept.
    Of the files that are `unlabelled`, those that somebody decided about and copies of any image are left out. Where
    images are `settled`, their splits are as an earlier run had them, and only the others are divided. Raises DataError
    if there is nothing to learn from.
    """
    with relayed_warnings(listener):
        catalog = data if isinstance(data, Catalog) else read(data, columns=columns, tell=listener.note)
        if decisions:
            catalog, *_ = carried_out = decided(catalog, decisions, listener.warn)
            listener.note(f"Carried out {counted(len(decisions), 'decision')}: {carried_out}")
        listener.hear(data_read(catalog))
        check_labels(catalog, recipe)
        grey_bits = decide_grey_bits(run, recipe, catalog, listener)
        files = undecided(unlabelled, catalog.root, decisions or ())
        both = with_samples(catalog, [file.as_posix() for file in files], [0] * len(files))
        with listener.progress("Decoding images") as tick:
            pixels = build_store(
                both,
                side=short_side(recipe.images),
                grey_bits=grey_bits,
                keep=both.splits != "test",
                limit_gb=recipe.images.cache_gb,
                progress=tick,
            )
        for note in pixels.notes:
            listener.note(note)
        labelled = int((pixels.readable < len(catalog)).sum())
        catalog, pixels = _readable(both, pixels, listener)
        added: tuple[str, ...] = ()
        if files:
            catalog, pixels, added = _parted(catalog, pixels, labelled, listener)
        with listener.progress("Looking for near-duplicates") as tick:
            near = (pixels.select(np.arange(len(catalog))) if added else pixels).clusters(tick)
        known = np.array([path in settled for path in catalog.paths], np.bool_)
        if known.any():
            catalog = _split_rest(catalog, known, near, recipe)
        else:
            unsplit, catalog = catalog, _split(catalog, near, recipe)
            if catalog is not unsplit:
                sizes = ", ".join(f"{split} {len(catalog.rows(split)):,}" for split in SPLITS)
                listener.note(f"Split the images: {sizes}")
    _check(catalog, listener)
    if conflicts := duplicate_conflicts(catalog, near):
        follows = "Scores will be too good" if conflicts.across_splits else "The labels differ: look at both pictures"
        listener.warn(
            f"Near-duplicates: {conflicts.describe(catalog)}. {follows}. Only whole pictures were compared; "
            "`fieldmark audit` finds cropped, mirrored and turned copies too"
        )
    return Prepared(catalog, pixels, near, added)


def _parted(
    both: Catalog, pixels: PixelStore, labelled: int, listener: Listener
) -> tuple[Catalog, PixelStore, tuple[str, ...]]:
    """The `labelled` rows alone, the pixels of all but copies among the others, and their paths."""
    _, first = np.unique(pixels.clusters(), return_index=True)
    known, fresh = np.arange(labelled), np.sort(first[first >= labelled])
    copies = len(both) - labelled - len(fresh)
    left_out = f"; {copies:,} more left out as copies" if copies else ""
    listener.note(f"{counted(len(fresh), 'photograph')} without a label{left_out}")
    paths = tuple(both.paths[row] for row in fresh)
    return both.select(known), pixels.select(np.concatenate([known, fresh])), paths


def _split(catalog: Catalog, near: NDArray[np.int64], recipe: Recipe) -> Catalog:
    """Make the splits that the data does not define. Only holdout needs validation; other protocols learn from it."""
    holdout = recipe.protocol == "holdout"
    if (catalog.splits == "").all():
        validation = VALIDATION_SHARE if holdout else 0.0
        fractions = (1 - TEST_SHARE - validation, validation, TEST_SHARE)
        return split(catalog, clusters=near, seed=recipe.seed, fractions=fractions)
    if holdout and not (catalog.splits == "val").any():
        return cut_validation(catalog, clusters=near, seed=recipe.seed, fraction=VALIDATION_SHARE)
    return catalog


def _split_rest(catalog: Catalog, known: NDArray[np.bool_], near: NDArray[np.int64], recipe: Recipe) -> Catalog:
    """Divide what has no split as data without splits is divided, but for what belongs together with `known` images."""
    catalog = following(catalog, known, clusters=near)
    rest = np.flatnonzero(catalog.splits == "")
    if not len(rest):
        return catalog
    splits = catalog.splits.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of few new images of a class, which may have others
        splits[rest] = _split(catalog.select(rest), near[rest], recipe).splits
    return replace(catalog, splits=splits)


def _readable(catalog: Catalog, pixels: PixelStore, listener: Listener) -> tuple[Catalog, PixelStore]:
    if not pixels.unreadable:
        return catalog, pixels
    names = first_few(catalog.paths[row] for row in pixels.unreadable)
    reason = next(iter(pixels.unreadable.values()))
    listener.warn(
        f"{len(pixels.unreadable):,} of {counted(len(catalog), 'image')} could not be read and were skipped: {names}. "
        f"{reason.rstrip('.')}. `fieldmark audit` lists them all, with the reasons"
    )
    if not len(pixels.readable):
        raise DataError(
            f"None of {counted(len(catalog), 'image')} of {catalog.name} could be read: {reason}",
            "Check that the files are images.",
        )
    return catalog.select(pixels.readable), pixels.select(pixels.readable)


def _check(catalog: Catalog, listener: Listener) -> None:
    train = catalog.rows("train")
    if not len(train):
        raise DataError(f"{catalog.name} has no readable training images", "Put images into its training split.")
    counts = np.bincount(catalog.labels[train], minlength=len(catalog.classes))
    if (counts > 0).sum() < 2:
        raise DataError(
            f"{catalog.name} has training images of only {(counts > 0).sum()} class",
            "A classifier needs at least two: add images of another.",
        )
    if (counts == 0).any():
        names = first_few(catalog.classes[k] for k in np.flatnonzero(counts == 0))
        number = int((counts == 0).sum())
        listener.warn(f"{number:,} of {len(counts):,} classes cannot be learnt without training images: {names}")
