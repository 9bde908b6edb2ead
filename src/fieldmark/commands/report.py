"""Report: what a run holds → one page to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fieldmark.core.listener import Done, Listener
from fieldmark.core.machine import AUTO
from fieldmark.core.storage import write_bytes
from fieldmark.data.catalog import Catalog
from fieldmark.reporting import compose
from fieldmark.reporting.gathering import gathered
from fieldmark.reporting.look_alikes import explained_pairs

__all__ = ["report"]


def report(
    run: Path | str,
    data: Path | str | Catalog | None = None,
    *,
    root: Path | str | None = None,
    out: Path | str | None = None,
    split: str | None = None,
    device: str = AUTO,
    listener: Listener | None = None,
) -> Path:
    """Write RUN/report/index.html, or `out`, and return it.

    The page shows `split`; unless told otherwise the test part if it was evaluated, else what training kept back.
    `data` (and `root`, as in `fieldmark.train`) says where the images are now if they were moved. What is missing
    (predictions, pictures) the page says itself, and the listener is warned. Raises RunError where there is no run or
    `split` was not evaluated.
    """
    listener = listener or Listener()
    material = gathered(Path(run), data, root=root, split=split)
    if not material.run.is_finished:
        listener.warn(f"{run} is not finished. To go on: fieldmark train … --out {run} --resume")
    elif material.shown is None:
        listener.warn(f"{run} has no predictions yet. The report will show more after: fieldmark evaluate {run}")
    page = compose(replace(material, explained=explained_pairs(material, listener, device=device)))
    if missing := material.pictures.missing:
        count = f"{len(missing):,} of {material.pictures.count:,} pictures"
        hint = f". If the data was moved: fieldmark report {run} DATA" if data is None else ""
        listener.warn(f"{count} cannot be read, such as {missing[0]}{hint}")
    path = Path(out) if out is not None else material.run.folder / "report" / "index.html"
    write_bytes(path, page.encode())
    listener.hear(Done("report", path.parent))
    return path
