"""`examine`: look for what would spoil a measurement on data, or what one should know before training.

| kind | spoils a measurement |
|---|---|
| copies-across-splits, groups-across-splits | always: what was memorised counts as skill |
| copies-under-two-labels | unless all are in train: a right answer may count as a mistake |
| truncated, unreadable | if one is in validation or test: a score would cover fewer images |
| not-in-train | always: such a class cannot be predicted |
| annotations-unturned | always: boxes or key points are not where the picture shows the thing |
| copies, cut-short, turned-copies, exif-orientation, annotations-outside, tiny, one-colour | never |
| few-to-learn, few-to-test, few-to-promise, unbalanced, not-measured, names-alike, reading | never |

Shapes: N rows of the catalogue, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.listener import Listener
from fieldmark.core.wording import counted
from fieldmark.data.auditing.alike_names import name_findings
from fieldmark.data.auditing.class_counts import class_findings
from fieldmark.data.auditing.copies import Copy, copies, joined
from fieldmark.data.auditing.cut_short import cut_short
from fieldmark.data.auditing.findings import Audit, Case, Finding
from fieldmark.data.cache import PixelStore
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.splits import duplicate_conflicts, units

__all__ = ["SIDE", "examine"]

SIDE = 64
"""Shorter side at which images are looked at: enough for copies, and quick to decode."""

_ONE_COLOUR = 2.0
"""Standard deviation in grey levels: below what a JPEG makes of plain paper."""
_TINY_SHARE, _TINY = 0.25, 8
_OUTSIDE = 1.0
"""Pixels by which an annotation may leave the picture: rounding."""


def examine(
    catalog: Catalog,
    store: PixelStore,
    *,
    orientations: NDArray[np.int64] | None = None,
    warnings: Sequence[str] = (),
    listener: Listener | None = None,
) -> Audit:
    """Return everything that is found in `catalog`, whose pixels are in `store`.

    `orientations` (N,) are the EXIF orientations, 1 if there is none; `warnings` are those of the reader.
    """
    prints, readable = store.fingerprints, store.readable
    plain = prints.thumbnails.std((1, 2)).max(1, initial=0) < _ONE_COLOUR
    pairs = copies(prints, lambda i: store[int(readable[i])].pixels, listener=listener)
    links = [Copy(int(readable[pair.first]), int(readable[pair.second]), pair.how) for pair in pairs]
    clusters = joined(links, len(catalog))
    turned = np.ones(len(catalog), np.int64) if orientations is None else orientations
    found = [
        *_unreadable(catalog, store),
        *cut_short(store),
        *_copies(catalog, clusters, links),
        *_split_groups(catalog),
        *_annotations(catalog, store, turned),
        *_turned_copies(links),
        *_orientation_flags(turned),
        *_tiny(store),
        *_one_colour(readable[plain]),
        *class_findings(catalog, units(catalog, clusters)),
        *name_findings(catalog),
        *_reading(warnings),
    ]
    return Audit(catalog, tuple(sorted(found, key=lambda finding: finding.severity != "spoils")))


def _unreadable(catalog: Catalog, store: PixelStore) -> Iterable[Finding]:
    reasons = store.unreadable
    short = [row for row, reason in reasons.items() if "truncated" in reason.lower() or "0 bytes" in reason]
    for kind, rows, verb in (
        ("truncated", short, "ends too early" if len(short) == 1 else "end too early"),
        ("unreadable", [row for row in reasons if row not in set(short)], "cannot be read"),
    ):
        measured = sum(catalog.splits[row] in ("val", "test") for row in rows)
        if rows:
            where = f"{measured:,} in validation or test, so a score would cover fewer images than other scores. "
            yield Finding(
                kind,
                "spoils" if measured else "notice",
                f"{counted(len(rows), 'image')} {verb}",
                f"Fieldmark leaves such images out{f': {where}' if measured else '. '}"
                "Copy or download them again, or remove them.",
                tuple(Case((row,), reasons[row]) for row in rows),
            )


def _copies(catalog: Catalog, clusters: NDArray[np.int64], links: list[Copy]) -> Iterable[Finding]:
    conflicts = duplicate_conflicts(catalog, clusters)
    hows = _hows(clusters, links)

    def cases(found: Iterable[tuple[int, ...]]) -> tuple[Case, ...]:
        """Identical files come first: nobody can doubt them."""
        every = [Case(rows, ", ".join(hows[int(clusters[rows[0]])])) for rows in found]
        return tuple(sorted(every, key=lambda case: not case.note.startswith("identical")))

    if conflicts.across_splits:
        yield Finding(
            "copies-across-splits",
            "spoils",
            f"{counted(len(conflicts.across_splits), 'picture')} in more than one split",
            f"{_leaked(catalog, clusters)}A score then counts memory as skill. Remove the copies from all splits but "
            "one; audit.json lists them.",
            cases(conflicts.across_splits),
        )
    if conflicts.across_labels:
        learnt = all(catalog.splits[row] == "train" for rows in conflicts.across_labels for row in rows)
        yield Finding(
            "copies-under-two-labels",
            "notice" if learnt else "spoils",
            f"{counted(len(conflicts.across_labels), 'picture')} under two labels",
            "The labels differ, so a right answer may count as a mistake. Look at both pictures, and correct a "
            "label that is wrong.",
            cases(conflicts.across_labels),
        )
    told = {int(clusters[rows[0]]) for rows in (*conflicts.across_splits, *conflicts.across_labels)}
    rest = [rows for rows in _members(clusters) if int(clusters[rows[0]]) not in told]
    if rest:
        yield Finding(
            "copies",
            "notice",
            f"{counted(len(rest), 'picture')} with copies",
            "Each copy counts as one more image but adds nothing new. When Fieldmark splits data, it keeps copies of "
            "whole pictures in one split. Remove the copies that you do not want.",
            cases(rest),
        )


def _hows(clusters: NDArray[np.int64], links: list[Copy]) -> dict[int, list[str]]:
    """Cluster → the ways in which its images are copies of each other."""
    hows: dict[int, list[str]] = {}
    for copy in links:
        known = hows.setdefault(int(clusters[copy.first]), [])
        if copy.how not in known:
            known.append(copy.how)
    return hows


def _members(clusters: NDArray[np.int64]) -> list[tuple[int, ...]]:
    """The rows of each cluster of two or more."""
    counts = np.bincount(clusters)
    rows = np.flatnonzero(counts[clusters] > 1)
    rows = rows[np.argsort(clusters[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(clusters[rows])) + 1
    return [tuple(part.tolist()) for part in np.split(rows, starts)] if len(rows) else []


def _leaked(catalog: Catalog, clusters: NDArray[np.int64]) -> str:
    """How much of the scored splits is in other splits too."""
    told = ""
    for split, other in (("val", "train"), ("test", "train"), ("test", "val")):
        leaked = np.isin(clusters[catalog.rows(split)], clusters[catalog.rows(other)])
        if leaked.any():
            share = f"{leaked.sum():,} of {len(leaked):,} {split} images ({100 * leaked.mean():.1f} %)"
            told += f"{share} {'shows' if leaked.sum() == 1 else 'show'} a picture that is also in {other}. "
    return told


def _split_groups(catalog: Catalog) -> Iterable[Finding]:
    known = np.flatnonzero((catalog.groups != "") & (catalog.splits != ""))
    names, number = np.unique(catalog.groups[known], return_inverse=True)
    counts = np.stack([np.bincount(number[catalog.splits[known] == split], minlength=len(names)) for split in SPLITS])
    across = np.flatnonzero((counts > 0).sum(0) > 1)
    if len(across):
        rows = known[np.argsort(number, kind="stable")]
        ends = np.cumsum(np.bincount(number, minlength=len(names)))
        members = np.split(rows, ends[:-1])
        yield Finding(
            "groups-across-splits",
            "spoils",
            f"{counted(len(across), 'group')} in more than one split",
            "Images of one group (a burst, a patient, an individual) look alike, so a score on one split says how well "
            "the group was remembered from another. Move each group into one split, or leave the data unsplit and let "
            "Fieldmark split it.",
            tuple(Case(tuple(members[group].tolist()), str(names[group])) for group in across),
        )


def _annotations(catalog: Catalog, store: PixelStore, turned: NDArray[np.int64]) -> Iterable[Finding]:
    corners = _extents(catalog)
    size = store.shapes[:, 2:].astype(np.float64)
    known = ~np.isnan(corners).any(1) & (size[:, 0] > 0)
    outside = known & _leaves(corners, size)
    unturned = outside & (turned >= 5) & ~_leaves(corners, size[:, ::-1])
    if unturned.any():
        rows = np.flatnonzero(unturned)
        sideways = int((known & (turned >= 5)).sum())
        yield Finding(
            "annotations-unturned",
            "spoils",
            f"{counted(len(rows), 'image')} whose boxes or key points ignore the EXIF orientation",
            f"They lie outside the upright picture but inside the picture as the file stores it, before its EXIF "
            f"orientation is applied. In all, {counted(sideways, 'annotated image')} "
            f"{'has' if sideways == 1 else 'have'} such a flag, and more of them may be wrong without showing it. Give "
            "coordinates in the upright picture, or turn the pixels and remove the flag.",
            tuple(Case((int(row),)) for row in rows),
        )
    rows = np.flatnonzero(outside & ~unturned)
    if len(rows):
        yield Finding(
            "annotations-outside",
            "notice",
            f"{counted(len(rows), 'image')} with boxes or key points outside the picture",
            "Whatever lies outside is cut off. Were the pictures resized after they were annotated?",
            tuple(Case((int(row),)) for row in rows),
        )


def _extents(catalog: Catalog) -> NDArray[np.float64]:
    """(N, 4) left, top, right and bottom of all annotations of each image; NaN where there are none."""
    points = [np.full((len(catalog), 1, 2), np.nan)]
    if catalog.boxes is not None:
        boxes = catalog.boxes.astype(np.float64)
        points.append(np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1))
    if catalog.keypoints is not None:
        points.append(np.where(catalog.keypoints[..., 2:] > 0, catalog.keypoints[..., :2], np.nan))
    every = np.concatenate(points, axis=1)
    low = np.fmin.reduce(every, axis=1)
    return np.concatenate([low, np.fmax.reduce(every, axis=1)], axis=1)


def _leaves(corners: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.bool_]:
    beyond = (corners[:, :2] < -_OUTSIDE) | (corners[:, 2:] > size + _OUTSIDE)
    return np.asarray(beyond.any(1))


def _turned_copies(links: list[Copy]) -> Iterable[Finding]:
    found = [copy for copy in links if copy.how in ("turned", "upside down")]
    if found:
        yield Finding(
            "turned-copies",
            "notice",
            f"{counted(len(found), 'pair')} of turned copies",
            "One image of each pair is the wrong way up, unless these pictures have no up and down.",
            tuple(Case((copy.first, copy.second), copy.how) for copy in found),
        )


def _orientation_flags(turned: NDArray[np.int64]) -> Iterable[Finding]:
    rows = np.flatnonzero(turned > 1)
    if len(rows):
        yield Finding(
            "exif-orientation",
            "notice",
            f"{counted(len(rows), 'image')} with an orientation flag in the file",
            "Fieldmark shows such images upright. Tools that ignore the flag show them turned or mirrored. Boxes and "
            "key points must refer to the upright picture.",
            tuple(Case((int(row),), f"EXIF orientation {turned[row]}") for row in rows),
        )


def _tiny(store: PixelStore) -> Iterable[Finding]:
    sides = store.shapes[store.readable, 2:].min(1, initial=np.iinfo(np.int32).max)
    if not len(sides):
        return
    usual = float(np.median(sides))
    least = max(_TINY, _TINY_SHARE * usual)
    small = np.flatnonzero(sides < least)
    if len(small):
        yield Finding(
            "tiny",
            "notice",
            f"{counted(len(small), 'image')} smaller than {least:.0f} pixels",
            f"Half of the images have a shorter side of at least {usual:.0f} pixels. At a quarter of that, little is "
            "left of what tells the classes apart. Are these images thumbnails? Get the originals, or remove them.",
            tuple(
                Case((int(store.readable[i]),), "{} × {} pixels".format(*store.shapes[store.readable[i], 2:]))
                for i in small[np.argsort(sides[small], kind="stable")]
            ),
        )


def _one_colour(rows: NDArray[np.int64]) -> Iterable[Finding]:
    if len(rows):
        yield Finding(
            "one-colour",
            "notice",
            f"{counted(len(rows), 'image')} of a single colour",
            "Such images show nothing. Remove them.",
            tuple(Case((int(row),)) for row in rows),
        )


def _reading(warnings: Sequence[str]) -> Iterable[Finding]:
    if warnings:
        yield Finding(
            "reading",
            "notice",
            f"{counted(len(warnings), 'warning')} from reading the data",
            "Fieldmark noticed this while it read the data.",
            tuple(Case((), text) for text in warnings),
        )
