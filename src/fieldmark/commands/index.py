"""Index: photographs go into a gallery, or out of it."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

from fieldmark.answering.parts.finding import check_parts
from fieldmark.answering.things import Thing, Things
from fieldmark.core.errors import DataError
from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.machine import AUTO, EngineName
from fieldmark.core.wording import counted, first_few
from fieldmark.data.readers.columns import Columns
from fieldmark.exporting.fastest import faster, fastest
from fieldmark.gallery.embedding import WHOLE, embedder, widths
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.indexing import Indexed, fill
from fieldmark.gallery.maker import maker_of
from fieldmark.gallery.opening import default_place, space_place
from fieldmark.gallery.photographs import Photograph, of_catalog, photographs
from fieldmark.gallery.store import Absent, Added
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.opening import catalog_of, opened_run

__all__ = ["index"]

_AS_INDEXED = "Name files or folders as they were indexed."


def index(
    run: Path | str,
    pictures: Things | None = None,
    *,
    gallery: Path | str | None = None,
    columns: Columns | None = None,
    labels: bool = True,
    parts: bool = False,
    remove: bool = False,
    root: Path | str | None = None,
    device: str = AUTO,
    engine: EngineName = "auto",
    listener: Listener | None = None,
) -> Indexed:
    """Add photographs to the gallery of a run, or `remove` them; unreadable ones are skipped.

    `pictures` are paths, folders, globs or tables, by default the data of the run (in `root`, if it was moved). Tables
    and class folders give labels and groups, unless `labels` is False. `gallery` is a folder, by default RUN/gallery,
    `postgresql://…` or `qdrant:FOLDER`; it is made if there is none. Photographs that are there already are passed
    over, so the same command goes on where it was stopped. With `parts`, the vectors of the method's parts are kept as
    well, in galleries beside it. `engine` is that of `fieldmark.predict`.

    Raises RunError for a gallery of another model or one that another process is writing into, and StorageError if it
    cannot be written.
    """
    listener = listener or Listener()
    place = default_place(Path(run)) if gallery is None else gallery
    if remove:
        return _removed(run, place, pictures)
    bundle = Bundle.load(run)
    if parts:
        check_parts(bundle)
    with relayed_warnings(listener), ExitStack() as stack:
        listed = _listed(run, pictures, columns, labels, root, listener)
        spaces = [WHOLE, *(bundle.parts if parts else ())]
        tries_later = engine == "auto"  # when it is known how many are new, and no gallery is refused
        things = [] if tries_later else [one.thing for one in listed]
        predictor = fastest(bundle, things, device=device, engine=engine, listener=listener)
        embed = embedder(predictor, spaces)
        galleries = {
            space: stack.enter_context(
                Gallery.make(space_place(place, bundle.parts, space), maker_of(predictor, space), width)
            )
            for space, width in widths(predictor, embed).items()
        }
        if tries_later and not parts:  # only PyTorch finds them
            predictor = faster(predictor, _new(galleries[WHOLE], listed), listener)
            embed = embedder(predictor, spaces)
        counts, skipped = fill(galleries, listed, lambda one: predictor.see(one.thing), embed, listener)
        for opened in galleries.values():
            opened.tidy()
        whole = galleries[WHOLE]
        found = Indexed(whole.store.place, counts, skipped, len(whole))
    listener.hear(Done("index"))
    return found


def _listed(
    run: Path | str,
    pictures: Things | None,
    columns: Columns | None,
    labels: bool,
    root: Path | str | None,
    listener: Listener,
) -> list[Photograph]:
    if pictures is not None:
        return list(photographs(pictures, columns=columns, labels=labels, tell=listener.note))
    listed = list(of_catalog(catalog_of(opened_run(Path(run)), None, root, listener, columns)))
    return listed if labels else [Photograph(one.thing) for one in listed]


def _new(gallery: Gallery, listed: list[Photograph]) -> list[Thing]:
    """The pictures that the gallery lacks, as far as paths tell."""
    there = {one.path for one in gallery.known(paths=(one.path for one in listed))}
    return [one.thing for one in listed if one.path not in there]


def _removed(run: Path | str, place: Path | str, pictures: Things | None) -> Indexed:
    """Take pictures out by their paths or the folders they lie in; no file need be there any more."""
    given = [pictures] if isinstance(pictures, str | Path) else pictures
    paths = [path for path in given if isinstance(path, str | Path)] if isinstance(given, list | tuple) else []
    if not paths:
        raise DataError("No paths were given to remove", _AS_INDEXED)
    with Gallery.open(place, writing=True) as opened:
        gone = opened.below(*paths)
        if not gone:
            pictures_there = counted(len(opened), "photograph")
            named = first_few(map(str, paths))
            raise DataError(f"None of {pictures_there} in {opened.store.place} lies at {named}", _AS_INDEXED)
        parts = Bundle.load(run).parts
        for part in parts:
            with suppress(Absent), Gallery.open(space_place(place, parts, part), writing=True) as beside:
                beside.remove(beside.below(*paths))
                beside.tidy()
        removed = opened.remove(gone)
        opened.tidy()
        return Indexed(opened.store.place, Added(), (), len(opened), removed)
