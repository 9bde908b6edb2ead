"""Verify: whether two pictures show the same, which of the known ones a picture shows, and how often that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldmark.answering.explaining.agreement import agreement
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import stream
from fieldmark.answering.things import Skipped, Thing, Things, named
from fieldmark.core.claims import check_replaceable
from fieldmark.core.errors import DataError
from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.machine import AUTO
from fieldmark.core.storage import check_writable, write_bytes
from fieldmark.core.wording import counted
from fieldmark.data.readers.columns import Columns
from fieldmark.evaluation.outputs import unit
from fieldmark.gallery.comparer import ELSEWHERE, MEASURE, Comparer, Seen
from fieldmark.gallery.embedding import WHOLE, embedder, widths
from fieldmark.gallery.evidence_picture import draw_comparison, png_of
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.indexing import fill
from fieldmark.gallery.judged import Identified, Measured, Verified
from fieldmark.gallery.known import read_known
from fieldmark.gallery.maker import maker_of
from fieldmark.gallery.photographs import Photograph, photographs

__all__ = ["identify", "measure", "verify"]


def verify(
    run: Path | str | Predictor,
    one: Things,
    other: Things,
    *,
    false_accepts: float | None = None,
    measured: Path | str | None = None,
    evidence: Path | str | None = None,
    device: str = AUTO,
    listener: Listener | None = None,
) -> Verified:
    """Say whether two pictures are of the same class, at a rate of false accepts: 1 %, or the lowest above that can be
    promised, if none is asked for. With `evidence`, a PNG file of that name shows where they agree and where not.

    The threshold comes from photographs that were measured (see `measure`), which are in `measured`, by default
    RUN/measured. Where there are none, it comes from the classes that the run was trained on, and the listener is
    warned that others are confused more often. Raises ImageError for a picture that cannot be read, DataError if both
    are the same photograph, and RunError for a rate that cannot be promised, for photographs that were measured with
    another model, and for a bundle that keeps nothing to compare by.
    """
    listener = listener or Listener()
    if evidence is not None:  # before the work
        check_replaceable(Path(evidence))
        check_writable(Path(evidence).parent)
    comparer = _comparer(run, measured, device)
    with relayed_warnings(listener):
        first, second = (_seen(comparer.predictor, picture) for picture in (one, other))
        found = comparer.pair(first, second, false_accepts)
        if evidence is not None:
            sides = agreement(comparer.predictor, comparer.plda, first.picture.thing, second.picture.thing)
            write_bytes(Path(evidence), png_of(draw_comparison(found, sides, comparer.verification)))
    _tell_of_learnt(comparer, listener)
    listener.hear(Done("verify", None if evidence is None else Path(evidence)))
    return found


def identify(
    run: Path | str | Predictor,
    pictures: Things,
    reference: Things,
    *,
    false_positives: float | None = None,
    measured: Path | str | None = None,
    columns: Columns | None = None,
    device: str = AUTO,
    listener: Listener | None = None,
) -> list[Identified | Skipped]:
    """Say which of the known ones each picture shows, or none, at a rate of false positive identifications.

    The `reference` is photographs of one thing, class folders or a table with a class for each thing, or a gallery. The
    more it has, the likelier one of them looks alike by chance: the threshold is one on the best of them, for
    photographs of the reference whose own class is left out and for those that were measured; see `verify`. A picture
    that is in the reference itself is compared with the rest. Unreadable pictures give `Skipped`.
    """
    listener = listener or Listener()
    comparer = _comparer(run, measured, device)
    predictor, found = comparer.predictor, list[Identified | Skipped]()
    with relayed_warnings(listener):
        known = read_known(predictor, reference, columns=columns, listener=listener)
        for answered in predictor.stream(named(pictures, listener.note, columns)):
            vectors = iter(() if answered.output is None else unit(answered.output.embedding.astype(np.float64)))
            for thing, error in zip(answered.things, answered.errors, strict=True):
                if error is not None:
                    found.append(Skipped(thing.name, str(error)))
                else:
                    seen = Seen(Photograph(thing).identified(), next(vectors))
                    found.append(comparer.search(seen, known, false_positives))
    _tell_of_learnt(comparer, listener)
    listener.hear(Done("verify", None))
    return found


def measure(
    run: Path | str | Predictor,
    pictures: Things,
    *,
    measured: Path | str | None = None,
    columns: Columns | None = None,
    device: str = AUTO,
    listener: Listener | None = None,
) -> Measured:
    """Measure how well classes are told apart that the run was not trained on, for the thresholds of `verify`.

    `pictures` are class folders or tables; those of classes that the run has learnt are set aside, and those of one
    group are not compared. They are added to what is in `measured`, a gallery, by default RUN/measured. Raises
    DataError if there are not two classes with two photographs each, and RunError for a gallery of another model.
    """
    listener = listener or Listener()
    comparer = _comparer(run, measured, device)
    listed = list(photographs(pictures, columns=columns, tell=listener.note))
    new = [listed[row] for row in comparer.unlearnt(one.label for one in listed)]
    if len(new) < len(listed):
        unnamed = sum(one.label is None for one in listed)
        learnt = len(listed) - len(new) - unnamed
        if learnt:
            listener.note(f"{counted(learnt, 'photograph')} of classes that the run was trained on set aside")
        if unnamed:
            listener.warn(f"{counted(unnamed, 'photograph')} without a label left out")
    if not new:
        raise DataError(
            "There is no photograph of a class that the run was not trained on",
            "Sort photographs of other classes into one folder per class, or list them in a table with a column label.",
        )
    predictor = comparer.predictor
    embed = embedder(predictor, [WHOLE])
    with relayed_warnings(listener):
        (width,) = widths(predictor, embed).values()
        with Gallery.make(comparer.place, maker_of(predictor), width, hint=ELSEWHERE) as gallery:
            counts, skipped = fill({WHOLE: gallery}, new, lambda one: predictor.see(one.thing), embed, listener)
    found = Measured(comparer.verification, comparer.place, counts.added + counts.replaced, skipped)
    listener.hear(Done("verify", Path(comparer.place)))
    return found


def _comparer(run: Path | str | Predictor, measured: Path | str | None, device: str) -> Comparer:
    return Comparer(run if isinstance(run, Predictor) else Predictor.load(run, device=device), measured)


def _seen(predictor: Predictor, picture: Things) -> Seen:
    """The only picture of a thing. Raises ImageError if it cannot be read."""
    found: list[Thing] = list(named(picture))
    if len(found) != 1:
        raise DataError(f"Two pictures are compared, and one of them is {len(found)}", "Give the path of one picture.")
    (answered,) = stream(found, predictor.see, predictor.engine)
    for _, error in answered.skipped:
        raise error
    assert answered.output is not None
    return Seen(Photograph(found[0]).identified(), unit(answered.output.embedding.astype(np.float64))[0])


def _tell_of_learnt(comparer: Comparer, listener: Listener) -> None:
    if comparer.of_learnt:
        listener.warn(
            "The threshold comes from classes that the run was trained on. Pairs of others, which a fine-tuned network "
            f"holds apart less well, may be accepted more often than this says. To measure it on others: {MEASURE}"
        )
