"""The page of an audit: the findings, with pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fieldmark.core.errors import ImageError
from fieldmark.data.auditing.findings import Audit, Case, Finding
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.decode import decode
from fieldmark.pages import ACCENT, canvas, picture, render, shortened, svg
from fieldmark.reporting.blocks import MOST_CLASSES

__all__ = ["compose_audit"]

_CASES, _PICTURES = 12, 6
"""How many cases of a finding and pictures of a case are shown, so that the page stays small."""
_NAMED = 60
_SAMPLES = 24
_BY_NAME = 20
_PICTURE_SIDE = 160


@dataclass(frozen=True)
class _Shown:
    """A picture on the page."""

    source: Markup | None
    """None where it cannot be read."""
    path: str
    label: str
    split: str


def compose_audit(found: Audit) -> str:
    """The page as HTML."""
    catalog = found.catalog
    counts = np.stack([np.bincount(catalog.labels[rows], minlength=len(catalog.classes)) for rows in _splits(catalog)])
    splits: list[str] = [split for split in SPLITS if len(catalog.rows(split))] or ["images"]
    order = np.argsort(counts.sum(0), kind="stable")
    return render(
        "audit.html",
        audit=found,
        catalog=catalog,
        splits=[(split, int(number)) for split, number in zip(splits, counts.sum(1), strict=True)]
        if len(splits) > 1
        else [],
        findings=[(finding, list(_cases(found, finding)), _rest(found, finding)) for finding in found],
        samples=[_shown(catalog, row) for row in _sample(catalog)],
        balance=_balance(catalog.classes, counts.sum(0)),
        columns=splits,
        classes=[(catalog.classes[k], counts[:, k].tolist()) for k in order[:MOST_CLASSES]],
        more_classes=max(0, len(order) - MOST_CLASSES),
    )


def _splits(catalog: Catalog) -> list[NDArray[np.int64]]:
    rows = [catalog.rows(split) for split in SPLITS if len(catalog.rows(split))]
    return rows or [np.arange(len(catalog))]


def _cases(found: Audit, finding: Finding) -> Iterator[tuple[Case, list[_Shown], int]]:
    """The cases that are shown, each with some pictures and the number of those left out."""
    for case in [case for case in finding.cases if case.rows][:_CASES]:
        yield case, [_shown(found.catalog, row) for row in _telling(found.catalog, case)], len(case.rows) - _PICTURES


def _telling(catalog: Catalog, case: Case) -> list[int]:
    """Rows of a case that show the conflict: one of each split and label first."""
    seen: set[tuple[str, int]] = set()
    first: list[int] = []
    rest: list[int] = []
    for row in case.rows:
        key = (str(catalog.splits[row]), int(catalog.labels[row]))
        (rest if key in seen else first).append(row)
        seen.add(key)
    return [*first, *rest][:_PICTURES]


def _rest(found: Audit, finding: Finding) -> tuple[list[str], int]:
    """The cases that are only named, and the number of those that are not even named."""
    shown = len([case for case in finding.cases if case.rows][:_CASES])
    named = [case.note for case in finding.cases if not case.rows]
    return named[:_NAMED], len(finding.cases) - shown - len(named[:_NAMED])


def _shown(catalog: Catalog, row: int) -> _Shown:
    try:
        source = picture(decode(catalog.file(row), short_side=_PICTURE_SIDE).pixels, side=_PICTURE_SIDE)
    except ImageError:
        source = None
    return _Shown(source, catalog.paths[row], catalog.classes[catalog.labels[row]], str(catalog.splits[row]))


def _sample(catalog: Catalog) -> list[int]:
    """Sample images of as many classes as possible, always the same ones."""
    rows = np.random.default_rng(0).permutation(len(catalog))
    _, nth = np.unique(catalog.labels[rows], return_index=True)
    once = np.random.default_rng(0).permutation(rows[nth])[:_SAMPLES]
    others = rows[~np.isin(rows, once)][: _SAMPLES - len(once)]
    return sorted([*once.tolist(), *others.tolist()], key=lambda row: (catalog.labels[row], row))


def _balance(classes: Sequence[str], counts: NDArray[np.int64]) -> Markup:
    """A bar for each class, or the outline where there are many."""
    title = "Images per class, largest first"
    if len(classes) <= _BY_NAME:
        figure, axes = canvas(6.0, 0.6 + 0.26 * len(classes))
        order = np.argsort(-counts, kind="stable")
        axes.barh(np.arange(len(order)), counts[order], height=0.7, color=ACCENT)
        names = [shortened(classes[k], 32) for k in order]
        axes.set_yticks(np.arange(len(order)), names, parse_math=False)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("images")
        return svg(figure, title=title)
    figure, axes = canvas(6.0, 2.4)
    axes.fill_between(np.arange(len(counts) + 1), np.append(np.sort(counts)[::-1], 0), step="post", color=ACCENT)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, len(counts))
    axes.set_xlabel("classes, largest first")
    axes.set_ylabel("images")
    return svg(figure, title=title)
