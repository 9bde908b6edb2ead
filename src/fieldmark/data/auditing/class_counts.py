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
_PROMISE = 59
"""With fewer images that are all right, 95 % may not even be true: 0.95⁵⁸ > 0.05."""


def class_findings(catalog: Catalog, units: NDArray[np.int64]) -> Iterable[Finding]:
    """What the numbers of images per class say. `units` (N,): images that count as one share a number."""
    whole = not (catalog.splits != "").any()
    counts = {part: _counts(catalog, catalog.rows(part), units) for part in (("",) if whole else SPLITS)}
    counts = {part: number for part, number in counts.items() if number.any()}
    if not whole and "train" in counts:
        yield from _absent(catalog, counts)
    if (learnt := counts.get("" if whole else "train")) is not None:
        yield from _few(catalog, learnt, "to learn from", "few-to-learn", _LEARN, _WHY_LEARN)
        yield from _unbalanced(catalog, "" if whole else "train")
        yield from _unpromising(int(learnt.sum()), int(counts["val"].sum()) if "val" in counts else None)
    if "test" in counts:
        yield from _few(catalog, counts["test"], "to test", "few-to-test", _TEST, _WHY_TEST)


_WHY_LEARN = (
    "Images of one group and copies of one picture count once. Scores of such classes vary widely from run to run; "
    "with fewer than three independent images a class cannot be in every part. Collect more, or join classes."
)
_WHY_TEST = (
    "One answer moves the accuracy of such a class by a fifth or more, and with it the mean per-class accuracy. Read "
    "its interval, not its value."
)


def _counts(catalog: Catalog, rows: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.int64]:
    """(K,) independent images of each class."""
    pairs = np.unique(np.stack([catalog.labels[rows], units[rows]], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=len(catalog.classes))


def _absent(catalog: Catalog, counts: dict[str, NDArray[np.int64]]) -> Iterable[Finding]:
    measured = np.sum([number for part, number in counts.items() if part != "train"], axis=0)
    missing = np.flatnonzero((counts["train"] == 0) & (measured > 0))
    if len(missing):
        yield Finding(
            "not-in-train",
            "spoils",
            f"{_classes(len(missing))} without an image in train",
            "It cannot be answered, so each of its images counts as a mistake whatever is trained. Move some images "
            "into train, or take the class out.",
            tuple(
                Case(_examples(catalog, int(k)), f"{catalog.classes[k]}: {measured[k]:,} to be measured, none in train")
                for k in missing
            ),
        )
    for part in ("val", "test"):
        if part in counts and len(missing := np.flatnonzero((counts[part] == 0) & (counts["train"] > 0))):
            yield Finding(
                "not-measured",
                "notice",
                f"{_classes(len(missing))} without an image in {part}",
                f"Nothing is known of them from the {part} part; the mean per-class accuracy is of the others.",
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


def _unbalanced(catalog: Catalog, part: str) -> Iterable[Finding]:
    counts = np.bincount(catalog.labels[catalog.rows(part)], minlength=len(catalog.classes))
    present = np.flatnonzero(counts)
    order = present[np.argsort(-counts[present], kind="stable")]
    most, least = order[0], order[-1]
    if counts[most] < _UNBALANCED * counts[least]:
        return
    rows = catalog.rows("test") if len(catalog.rows("test")) else catalog.rows(part)
    share = float((catalog.labels[rows] == most).mean())
    yield Finding(
        "unbalanced",
        "notice",
        f"classes of {counts[least]:,} to {counts[most]:,} images",
        f"Whoever always answers {catalog.classes[most]!r} is right in {100 * share:.1f} %. Read the mean per-class "
        "accuracy beside top-1.",
        tuple(Case((), f"{catalog.classes[k]}: {counted(int(counts[k]), 'image')}") for k in (most, least)),
    )


def _unpromising(learnt: int, validation: int | None) -> Iterable[Finding]:
    """Numbers of independent images; None where the data has no validation part."""
    held_out = round(VALIDATION_SHARE * learnt) if validation is None else validation
    if held_out < _PROMISE:
        yield Finding(
            "few-to-promise",
            "notice",
            f"{'about ' if validation is None else ''}{counted(held_out, 'image')} for validation, few to promise by",
            f"To promise that 95 % of given answers are right takes {_PROMISE} independent ones that are all right, "
            "and more where some are wrong. Verdicts will say what they cannot promise. Collect more, or let every "
            "training image be answered by a model that has not seen it: --set protocol=crossfit.",
            (Case((), f"it takes {_PROMISE}, or --set protocol=crossfit"),),
        )


def _examples(catalog: Catalog, label: int) -> tuple[int, ...]:
    return tuple(np.flatnonzero(catalog.labels == label)[:3].tolist())


def _classes(number: int) -> str:
    return "1 class" if number == 1 else f"{number:,} classes"
