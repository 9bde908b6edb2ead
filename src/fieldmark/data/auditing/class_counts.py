"""`class_findings`: classes that cannot be learnt, cannot be measured, or weigh too much.

Shapes: N rows of the catalogue, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.wording import counted
from fieldmark.data.auditing.findings import Case, Finding
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.splits import VALIDATION_SHARE

__all__ = ["class_findings"]

_LEARN, _TEST = 10, 5
_UNBALANCED = 10
_PROMISE = 77
"""With fewer images, even if all are answered correctly, 95 % may not be true: 0.95⁷⁶ > 0.02."""


def class_findings(catalog: Catalog, units: NDArray[np.int64]) -> Iterable[Finding]:
    """The findings about the number of images per class. `units` (N,): images that count as one share a number."""
    whole = not (catalog.splits != "").any()
    counts = {split: _counts(catalog, catalog.rows(split), units) for split in (("",) if whole else SPLITS)}
    counts = {split: number for split, number in counts.items() if number.any()}
    if not whole and "train" in counts:
        yield from _absent(catalog, counts)
    if (learnt := counts.get("" if whole else "train")) is not None:
        yield from _few(catalog, learnt, "for training", "few-to-learn", _LEARN, _WHY_LEARN)
        yield from _unbalanced(catalog, "" if whole else "train")
        yield from _unpromising(int(learnt.sum()), int(counts["val"].sum()) if "val" in counts else None)
    if "test" in counts:
        yield from _few(catalog, counts["test"], "for testing", "few-to-test", _TEST, _WHY_TEST)


_WHY_LEARN = (
    "Images of one group and copies of one picture count once. The scores of such classes vary widely from run to run, "
    "and a class with fewer than three independent images cannot be in every split. Collect more images, or merge "
    "classes."
)
_WHY_TEST = (
    "A single answer changes the accuracy of such a class by a fifth or more, and the mean per-class accuracy with it. "
    "Read the interval, not the value."
)


def _counts(catalog: Catalog, rows: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.int64]:
    """(K,) independent images of each class."""
    pairs = np.unique(np.stack([catalog.labels[rows], units[rows]], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=len(catalog.classes))


def _absent(catalog: Catalog, counts: dict[str, NDArray[np.int64]]) -> Iterable[Finding]:
    measured = np.sum([number for split, number in counts.items() if split != "train"], axis=0)
    missing = np.flatnonzero((counts["train"] == 0) & (measured > 0))
    if len(missing):
        yield Finding(
            "not-in-train",
            "spoils",
            f"{_classes(len(missing))} without an image in train",
            "A model cannot predict a class that it has never seen, so each image of it counts as a mistake. Move some "
            "images into train, or leave the class out.",
            tuple(
                Case(
                    _examples(catalog, int(k)),
                    f"{catalog.classes[k]}: {counted(int(measured[k]), 'image')} to score, but no image in train",
                )
                for k in missing
            ),
        )
    for split in ("val", "test"):
        if split in counts and len(missing := np.flatnonzero((counts[split] == 0) & (counts["train"] > 0))):
            yield Finding(
                "not-measured",
                "notice",
                f"{_classes(len(missing))} without an image in {split}",
                f"The {split} split says nothing about them; its mean per-class accuracy covers only the others.",
                tuple(Case((), catalog.classes[k]) for k in missing),
            )


def _few(
    catalog: Catalog, counts: NDArray[np.int64], purpose: str, kind: str, least: int, why: str
) -> Iterable[Finding]:
    few = np.flatnonzero((counts > 0) & (counts < least))
    if len(few):
        yield Finding(
            kind,
            "notice",
            f"{_classes(len(few))} with fewer than {least} images {purpose}",
            why,
            tuple(
                Case((), f"{catalog.classes[k]}: {counted(int(counts[k]), 'image')}")
                for k in few[np.argsort(counts[few], kind="stable")]
            ),
        )


def _unbalanced(catalog: Catalog, split: str) -> Iterable[Finding]:
    counts = np.bincount(catalog.labels[catalog.rows(split)], minlength=len(catalog.classes))
    present = np.flatnonzero(counts)
    order = present[np.argsort(-counts[present], kind="stable")]
    most, least = order[0], order[-1]
    if counts[most] < _UNBALANCED * counts[least]:
        return
    rows = catalog.rows("test") if len(catalog.rows("test")) else catalog.rows(split)
    share = float((catalog.labels[rows] == most).mean())
    yield Finding(
        "unbalanced",
        "notice",
        f"from {counts[least]:,} to {counts[most]:,} images per class",
        f"A model that always predicts {catalog.classes[most]!r} is right for {100 * share:.1f} % of the images. "
        "Read the mean per-class accuracy as well as top-1.",
        tuple(Case((), f"{catalog.classes[k]}: {counted(int(counts[k]), 'image')}") for k in (most, least)),
    )


def _unpromising(learnt: int, validation: int | None) -> Iterable[Finding]:
    """Numbers of independent images; None if the data has no validation split."""
    held_out = round(VALIDATION_SHARE * learnt) if validation is None else validation
    if held_out < _PROMISE:
        about = "about " if validation is None else ""
        yield Finding(
            "few-to-promise",
            "notice",
            f"{about}{counted(held_out, 'image')} for validation, too few to promise 95 %",
            f"A promise that 95 % of the given answers are right needs {_PROMISE} independent validation images if all "
            "of them are answered correctly and surely, and more if not; 90 % needs 38, 80 % needs 18 and 70 % needs "
            "11. The highest that the images support is promised. Collect more images, or have each training image "
            "predicted by a model that has not seen it: --set protocol=crossfit (not with --budget).",
            (Case((), f"{_PROMISE} are needed, or --set protocol=crossfit (not with --budget)"),),
        )


def _examples(catalog: Catalog, label: int) -> tuple[int, ...]:
    return tuple(np.flatnonzero(catalog.labels == label)[:3].tolist())


def _classes(number: int) -> str:
    return "1 class" if number == 1 else f"{number:,} classes"
