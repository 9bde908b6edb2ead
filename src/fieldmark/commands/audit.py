"""`audit`: look at data before anything is learnt from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fieldmark.commands.listener import Listener, Tick, kept_warnings
from fieldmark.data.audit import SIDE, examine
from fieldmark.data.cache import build_store
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.decode import decode, orientation
from fieldmark.data.findings import Audit, Case, Finding
from fieldmark.datasets import read
from fieldmark.errors import ImageError
from fieldmark.pages import ACCENT, canvas, picture, render, svg
from fieldmark.storage import make_folder, write_bytes, write_json

__all__ = ["audit"]

_CASES, _PICTURES = 12, 6
"""Of each finding and of each case so many are shown, so that the page stays small whatever is found."""
_NAMED = 60
_SAMPLES = 24
_CLASSES, _BY_NAME = 300, 20
_PICTURE_SIDE = 160
_BLOCK = 1024


def audit(
    data: Path | str | Catalog,
    *,
    root: Path | str | None = None,
    out: Path | str | None = None,
    listener: Listener | None = None,
) -> Audit:
    """Look for what would spoil a measurement on `data`, or should be known before training.

    Every image is decoded once and compared with the others. With `out`, `audit.json` (see `Audit.as_dict`) and
    `index.html`, a page with the pictures, are written there.
    """
    listener = listener or Listener()
    if out is not None:
        make_folder(Path(out))  # before the work, not after it
    with kept_warnings() as warnings:
        catalog = data if isinstance(data, Catalog) else read(data, root=root)
    listener.note(f"Read {catalog!r}")
    with listener.progress("Looking at images") as tick:
        store = build_store(catalog, side=SIDE, keep=np.zeros(len(catalog), bool), progress=tick)
    with listener.progress("Reading orientations") as tick:
        turned = _orientations(catalog, tick)
    with listener.progress("Comparing pictures") as tick:
        found = examine(catalog, store, orientations=turned, warnings=warnings, progress=tick)
    if out is not None:
        write_json(Path(out) / "audit.json", found.as_dict())
        write_bytes(Path(out) / "index.html", _page(found).encode())
    return found


def _orientations(catalog: Catalog, tick: Tick) -> NDArray[np.int64]:
    """(N,) the EXIF orientation of every file."""
    turned = np.ones(len(catalog), np.int64)
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(catalog), _BLOCK):
            rows = range(start, min(start + _BLOCK, len(catalog)))
            turned[start : rows.stop] = list(pool.map(lambda row: orientation(catalog.file(row)), rows))
            tick(rows.stop, len(catalog))
    return turned


@dataclass(frozen=True)
class _Shown:
    """A picture on the page."""

    source: Markup | None
    """None where it cannot be read."""
    path: str
    label: str
    part: str


def _page(found: Audit) -> str:
    catalog = found.catalog
    counts = np.stack([np.bincount(catalog.labels[rows], minlength=len(catalog.classes)) for rows in _parts(catalog)])
    parts: list[str] = [part for part in SPLITS if len(catalog.rows(part))] or ["images"]
    order = np.argsort(counts.sum(0), kind="stable")
    return render(
        "audit.html",
        audit=found,
        catalog=catalog,
        parts=[(part, int(number)) for part, number in zip(parts, counts.sum(1), strict=True)]
        if len(parts) > 1
        else [],
        findings=[(finding, list(_cases(found, finding)), _rest(found, finding)) for finding in found],
        samples=[_shown(catalog, row) for row in _sample(catalog)],
        balance=_balance(catalog.classes, counts.sum(0)),
        columns=parts,
        classes=[(catalog.classes[k], counts[:, k].tolist()) for k in order[:_CLASSES]],
        more_classes=max(0, len(order) - _CLASSES),
    )


def _parts(catalog: Catalog) -> list[NDArray[np.int64]]:
    rows = [catalog.rows(part) for part in SPLITS if len(catalog.rows(part))]
    return rows or [np.arange(len(catalog))]


def _cases(found: Audit, finding: Finding) -> Iterator[tuple[Case, list[_Shown], int]]:
    """The cases that are shown with pictures: each with some, and how many more it has."""
    for case in [case for case in finding.cases if case.rows][:_CASES]:
        yield case, [_shown(found.catalog, row) for row in _telling(found.catalog, case)], len(case.rows) - _PICTURES


def _telling(catalog: Catalog, case: Case) -> list[int]:
    """Rows of a case that show the conflict: one of each part and label first."""
    seen: set[tuple[str, int]] = set()
    first: list[int] = []
    rest: list[int] = []
    for row in case.rows:
        key = (str(catalog.splits[row]), int(catalog.labels[row]))
        (rest if key in seen else first).append(row)
        seen.add(key)
    return [*first, *rest][:_PICTURES]


def _rest(found: Audit, finding: Finding) -> tuple[list[str], int]:
    """What is only named, and how much is not even that."""
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
    """Some images of as many classes as possible, the same ones each time."""
    rows = np.random.default_rng(0).permutation(len(catalog))
    _, nth = np.unique(catalog.labels[rows], return_index=True)
    once = np.random.default_rng(0).permutation(rows[nth])[:_SAMPLES]
    others = rows[~np.isin(rows, once)][: _SAMPLES - len(once)]
    return sorted([*once.tolist(), *others.tolist()], key=lambda row: (catalog.labels[row], row))


def _balance(classes: Sequence[str], counts: NDArray[np.int64]) -> Markup:
    """Few classes by name, of many the outline."""
    title = "Images of each class, the largest class first"
    if len(classes) <= _BY_NAME:
        figure, axes = canvas(6.0, 0.6 + 0.26 * len(classes))
        order = np.argsort(-counts, kind="stable")
        axes.barh(np.arange(len(order)), counts[order], height=0.7, color=ACCENT)
        names = [shorten(classes[k], 32, placeholder=" …") for k in order]
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
    axes.set_xlabel("classes, the largest first")
    axes.set_ylabel("images")
    return svg(figure, title=title)
