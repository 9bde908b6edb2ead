"""Report: a page about a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fieldmark.core.claims import check_replaceable
from fieldmark.core.listener import Done, Listener
from fieldmark.core.machine import AUTO
from fieldmark.core.storage import check_writable, write_bytes
from fieldmark.core.wording import counted
from fieldmark.data.catalog import Catalog
from fieldmark.reporting.composition import compose
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
    """Write RUN/report/index.html, or `out`, and return its path.

    The page shows `split`: by default the test split if it was evaluated, otherwise the validation data. `data` (and
    `root`, as in `fieldmark.train`) says where the images are if they were moved. If predictions or pictures are
    missing, the page says so and the listener is warned. Raises RunError if there is no run, or if `split` was not
    evaluated.
    """
    listener = listener or Listener()
    material = gathered(Path(run), data, root=root, split=split)
    path = Path(out) if out is not None else material.run.folder / "report" / "index.html"
    check_replaceable(path)  # before the work
    check_writable(path.parent)
    if not material.run.is_finished:
        listener.warn(f"{run} is not finished. To continue: fieldmark train … --out {run} --resume")
    elif material.shown is None:
        listener.warn(f"{run} has no predictions yet, so the report is short. To get them: fieldmark evaluate {run}")
    page = compose(replace(material, explained=explained_pairs(material, listener, device=device)))
    if missing := material.pictures.missing:
        count = f"{len(missing):,} of {counted(material.pictures.count, 'picture')}"
        hint = f". If the data was moved: fieldmark report {run} DATA" if data is None else ""
        listener.warn(f"{count} cannot be read, such as {missing[0]}{hint}")
    write_bytes(path, page.encode())
    listener.hear(Done("report", path.parent))
    return path
