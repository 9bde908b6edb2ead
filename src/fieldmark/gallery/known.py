"""`Known`: the photographs of a reference, with the names of what they show.

Shapes: M photographs, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import stream
from fieldmark.answering.things import Things
from fieldmark.core.errors import DataError
from fieldmark.core.listener import Listener
from fieldmark.core.machine import num_decoders
from fieldmark.core.wording import counted
from fieldmark.data.readers.columns import Columns
from fieldmark.evaluation.identification import Reference
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.paired import group_codes
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.maker import maker_of
from fieldmark.gallery.opening import is_gallery
from fieldmark.gallery.photographs import photographs
from fieldmark.gallery.store import Entry

__all__ = ["SAME", "Known", "read_known"]

Floats = NDArray[np.float64]

SAME = 1 - 1e-4
"""The cosine of two embeddings from which they are of the same picture, up to rounding."""


class Known(NamedTuple):
    """Photographs of what is known."""

    entries: tuple[Entry, ...]
    """(M,) each with a label."""
    embedding: Floats
    """(M, D) of unit length."""

    def without(self, digest: str, embedding: Floats) -> Known:
        """What is left without a picture, of which the digest of its file, "" if it is none, and the embedding (D,)."""
        copies = (self.embedding @ embedding).round(6) >= SAME
        kept = [
            row for row, one in enumerate(self.entries) if not copies[row] and not (digest and one.digest == digest)
        ]
        if len(kept) == len(self.entries):
            return self
        return Known(tuple(self.entries[row] for row in kept), self.embedding[kept])

    @property
    def names(self) -> list[str]:
        """What is known, in the order of the reference's labels."""
        return sorted({one.label or "" for one in self.entries})

    def reference(self) -> Reference:
        number = {name: k for k, name in enumerate(self.names)}
        labels = np.array([number[one.label or ""] for one in self.entries], np.int64)
        return Reference(self.embedding, labels, group_codes([one.group or "" for one in self.entries]))


def read_known(
    predictor: Predictor, place: Things, *, columns: Columns | None = None, listener: Listener | None = None
) -> Known:
    """A gallery, class folders, a table, or photographs of one thing, which is then called as their folder is.

    Raises DataError if nothing can be read, and RunError for a gallery of another model.
    """
    listener = listener or Listener()
    what = str(place) if isinstance(place, str | Path) else "that was given"
    if isinstance(place, str | Path) and is_gallery(place):
        with Gallery.open(place, maker_of(predictor)) as gallery:
            entries, vectors = gallery.contents()
            what = gallery.store.place  # without a password
        pairs = list(zip(entries, vectors.astype(np.float64), strict=True))
    else:
        pairs = list(_looked_at(predictor, place, columns, listener))
    if not pairs:
        raise DataError(
            f"The reference {what} has no photograph that can be read", "Give photographs of what is known."
        )
    if all(one.label is None for one, _ in pairs):
        named = isinstance(place, str | Path)
        folders = {Path(what)} if Path(what).is_dir() else {Path(one.path).parent for one, _ in pairs if named}
        alone = folders.pop().resolve().name if len(folders) == 1 else "the known one"
        pairs = [(one._replace(label=alone), vector) for one, vector in pairs]
    if nameless := sum(one.label is None for one, _ in pairs):
        listener.warn(f"{counted(nameless, 'photograph')} of the reference without a label left out")
    pairs = [(one, vector) for one, vector in pairs if one.label is not None]
    return Known(tuple(one for one, _ in pairs), np.array([vector for _, vector in pairs]))


def _looked_at(
    predictor: Predictor, place: Things, columns: Columns | None, listener: Listener
) -> Iterator[tuple[Entry, Floats]]:
    asked = photographs(place, columns=columns, tell=lambda _: None)
    for answered in stream(asked, lambda one: predictor.see(one.thing), predictor.engine, threads=num_decoders()):
        for one, error in answered.skipped:
            listener.warn(f"{one.thing.name} of the reference is left out: {error}")
        if answered.output is not None:
            for one, vector in zip(answered.readable, unit(answered.output.embedding.astype(np.float64)), strict=True):
                yield one.identified().entry(), vector
