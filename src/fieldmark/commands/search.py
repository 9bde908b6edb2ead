"""Search: the pictures of a gallery that look most like others."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import stream
from fieldmark.answering.things import Skipped, Thing, Things
from fieldmark.core.claims import check_replaceable
from fieldmark.core.errors import ImageError
from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.machine import AUTO
from fieldmark.core.storage import check_writable, write_bytes
from fieldmark.core.wording import counted
from fieldmark.data.names import normal
from fieldmark.data.readers.columns import Columns
from fieldmark.gallery.contact_sheet import compose_sheet, draw_sheet
from fieldmark.gallery.embedding import check_part, embedder
from fieldmark.gallery.finding import Found, Question, look_up
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.maker import maker_of
from fieldmark.gallery.opening import default_place, space_place
from fieldmark.gallery.photographs import photographs
from fieldmark.gallery.store import Absent, Maker, Vectors

__all__ = ["search"]

_PAGE, _PICTURE = "search.html", "search.png"


def search(
    run: Path | str | Predictor,
    pictures: Things,
    *,
    gallery: Path | str | None = None,
    most: int = 10,
    label: str | None = None,
    not_own_group: bool = False,
    part: str | None = None,
    columns: Columns | None = None,
    out: Path | str | None = None,
    device: str = AUTO,
    listener: Listener | None = None,
) -> list[Found | Skipped]:
    """Find the `most` similar pictures in a gallery for each picture, in order; unreadable ones give `Skipped`.

    `pictures` are things that `Predictor.predict` takes, and `gallery` is that of the run by default (see `index`).
    With a `label`, only neighbours that have it. With `not_own_group`, none of the picture's own group (a burst, a
    camera) and not the picture itself; the group is the one in the gallery or in a table of pictures. With a `part`,
    pictures are alike in what the network sees there, and those that do not show it are skipped. With `out`, a
    contact sheet is written into that folder, as search.html and search.png. Raises RunError for a gallery that is
    empty, absent, damaged or of another model, and StorageError if a database does not answer or nothing can be
    written.
    """
    listener = listener or Listener()
    predictor = run if isinstance(run, Predictor) else Predictor.load(run, device=device)
    if gallery is None:
        assert predictor.bundle.folder is not None
        gallery = default_place(predictor.bundle.folder)
    if out is not None:
        for name in (_PAGE, _PICTURE):  # before the work
            check_replaceable(Path(out) / name)
        check_writable(Path(out))
    if part is not None:
        check_part(predictor, part)
    question = Question(most, None if label is None else normal(label), not_own_group)
    place, embed = space_place(gallery, predictor.bundle.parts, part), embedder(predictor, [part])
    found: list[Found | Skipped] = []
    with relayed_warnings(listener), _opened(place, maker_of(predictor, part), part) as opened:
        asked = photographs(pictures, columns=columns, tell=lambda _: None)
        for answered in stream(asked, lambda one: predictor.see(one.thing), embed):
            vectors: Iterator[Vectors] = iter(answered.output[part] if answered.output else ())
            for one, error in zip(answered.things, answered.errors, strict=True):
                if error is not None:
                    found.append(Skipped(one.thing.name, str(error)))
                elif np.isnan(vector := next(vectors)).any():
                    found.append(Skipped(one.thing.name, f"The part {part!r} is not seen in {one.thing.name}"))
                else:
                    found.append(look_up(opened, one, vector, question))
        _tell_of_groups(found, question, listener)
        if out is not None:
            _write_sheet(found, predictor, Path(out), _about(question, part), len(opened))
    listener.hear(Done("search", None if out is None else Path(out)))
    return found


def _opened(place: str, maker: Maker, part: str | None) -> Gallery:
    try:
        return Gallery.open(place, maker)
    except Absent as error:
        hint = "" if part is None else "Keep the vectors of parts with: fieldmark index RUN --parts"
        raise Absent(error.problem, hint or error.hint) from None


def _tell_of_groups(found: list[Found | Skipped], question: Question, listener: Listener) -> None:
    """Say for how many pictures nothing could be left out."""
    unknown = [one for one in found if isinstance(one, Found) and one.picture.group is None]
    if question.not_own_group and unknown:
        listener.warn(
            f"The group of {counted(len(unknown), 'picture')} is not known, neither from the gallery nor from a table, "
            f"such as {unknown[0].path}: of the neighbours, only the same file is left out"
        )


def _about(question: Question, part: str | None) -> str:
    alike = "most similar photographs" if part is None else f"photographs most similar in the part {part}"
    label = "" if question.label is None else f" with the label {question.label}"
    group = ", without the photograph's own group" if question.not_own_group else ""
    return f"The {question.most} {alike}{label}{group}"


def _write_sheet(
    found: list[Found | Skipped], predictor: Predictor, folder: Path, about: str, num_pictures: int
) -> None:
    shown = [one for one in found if isinstance(one, Found)]
    look = partial(_pixels, predictor)
    write_bytes(folder / _PAGE, compose_sheet(shown, look, about=about, num_pictures=num_pictures).encode())
    if shown:
        data = io.BytesIO()
        draw_sheet(shown, look).savefig(data, format="png", dpi=110, metadata={"Software": "Fieldmark"})
        write_bytes(folder / _PICTURE, data.getvalue())


def _pixels(predictor: Predictor, thing: Thing) -> NDArray[np.uint8] | None:
    try:
        return predictor.decode(thing).pixels
    except ImageError:
        return None
