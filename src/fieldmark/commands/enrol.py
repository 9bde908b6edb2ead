"""Enrol: a new class from a handful of photographs, without training; and what becomes of it later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Skipped, Things, named
from fieldmark.core.claims import check_replaceable
from fieldmark.core.errors import DataError, RunError
from fieldmark.core.listener import Done, Listener
from fieldmark.core.locks import lock
from fieldmark.core.machine import AUTO
from fieldmark.core.storage import explained, write_bytes
from fieldmark.core.wording import counted, first_few
from fieldmark.evaluation.enrolment import Shown
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.gallery.known import SAME
from fieldmark.reporting.odd_page import compose_odd
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.enrolling import Classes, enrolled_label, free_name, kept_in, place_of
from fieldmark.runs.enrolment import Enrolment, remove_enrolment, write_enrolment
from fieldmark.runs.opening import opened_run
from fieldmark.runs.record import read_scores
from fieldmark.runs.run import Run

__all__ = ["Enrolled", "enrol"]

_TWO = 2


@final
@dataclass(frozen=True)
class Enrolled:
    """What became of a class."""

    name: str
    photographs: int
    """By how many it is known now; 0 if it was removed."""
    recognised: int | None = None
    """How many of them would be recognised as this class if they were not among them; None where a
    single one shows it, or none was asked about."""
    odd: tuple[str, ...] = ()
    """Those among the photographs given that do not look like the others."""
    skipped: tuple[Skipped, ...] = ()
    """Those that cannot be used, with the reasons."""

    @property
    def said(self) -> str:
        """In words."""
        if not self.photographs:
            return f"{self.name} is no class any more"
        known = f"{self.name} is known from {counted(self.photographs, 'photograph')}"
        if self.recognised is None:
            return known
        return f"{known}; {self.recognised} of them would be recognised by the others"


def enrol(
    run: Path | str,
    name: str,
    photographs: Things | None = None,
    *,
    under: Mapping[str, str] | None = None,
    add: bool = False,
    rename: str | None = None,
    remove: bool = False,
    device: str = AUTO,
    listener: Listener | None = None,
) -> Enrolled:
    """Make a new class of a few photographs in the bundle of a run, without training; in seconds.

    `under` names what the class belongs to, such as {"genus": "Passerina"}, where the run has a taxonomy; levels above
    a known name follow from it. With `add`, the photographs are further ones of a class that is enrolled already.
    `rename` gives an enrolled class another name, and `remove` takes it out: once none is left, the bundle answers as
    it did before the first. Photographs that cannot be read, and copies, are skipped. Classes that were learnt cannot
    be changed. Raises RunError for a name that is taken or unknown, and for a bundle of a version that kept nothing to
    enrol by, and DataError if no photograph can be used.
    """
    listener = listener or Listener()
    asked = sum((photographs is not None, rename is not None, remove))
    if asked != 1:
        raise DataError(
            "No photographs were given" if not asked else "A class is either shown, renamed or removed",
            "Give files, folders, globs or tables of photographs that show the class, and nothing else.",
        )
    bundle = Bundle.load(run)
    assert bundle.folder is not None
    with _alone(bundle.folder):
        bundle = Bundle.load(run)  # what another process has enrolled meanwhile
        if remove:
            result = _removed(bundle, name)
        elif rename is not None:
            result = _renamed(bundle, name, rename)
        else:
            assert photographs is not None
            result = _shown(bundle, name, photographs, under or {}, add=add, device=device, listener=listener)
    _tell_of_scores(opened_run(Path(run)), Bundle.load(run).enrolled_as, listener)
    listener.hear(Done("enrol", bundle.folder))
    return result


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One change at a time."""
    path = folder / ".enrolling"
    with ExitStack() as stack:
        with explained(path):
            alone = stack.enter_context(lock(path, wait=False))
        if not alone:
            raise RunError(f"Another process is enrolling in {folder}", "Wait until it has finished.")
        try:
            yield
        finally:
            with suppress(OSError):  # where a file that is held cannot be removed, it stays, and nobody minds
                path.unlink(missing_ok=True)


def _shown(
    bundle: Bundle,
    name: str,
    photographs: Things,
    under: Mapping[str, str],
    *,
    add: bool,
    device: str,
    listener: Listener,
) -> Enrolled:
    kept = kept_in(bundle)
    classes = Classes.of(bundle, kept)
    if add:
        label = enrolled_label(bundle, name)
        if under:
            raise DataError(f"{classes.names[label]} has its place already", "Leave --under out, with --add.")
    else:
        label = len(classes.names)
        classes = classes.with_class(free_name(bundle, name), place_of(bundle, under))
    check_replaceable(_odd_page(bundle))  # before anything is enrolled
    names, views, new, skipped = _look(bundle, classes.shown, photographs, device, listener)
    if not names:
        why = f": {first_few(one.reason for one in skipped)}" if skipped else ""
        raise DataError(f"No photograph can be used{why}", "Give pictures that show the class.")
    classes = classes.with_photographs(label, new)
    enrolment, found = classes.fitted(bundle, kept)
    _write(bundle, enrolment)
    own = np.flatnonzero(classes.shown.labels == label)
    odd = found.odd[own[-len(names) :]]
    result = Enrolled(
        classes.names[label],
        len(own),
        int(found.recognised[own].sum()) if len(own) >= _TWO else None,
        tuple(names[i] for i in np.flatnonzero(odd)),
        tuple(skipped),
    )
    page = _page_of_odd(bundle, compose_odd(result.name, names, views, odd)) if odd.any() else None
    _tell(result, bundle.with_enrolment(enrolment), page, listener)
    return result


def _removed(bundle: Bundle, name: str) -> Enrolled:
    label = enrolled_label(bundle, name)
    classes = Classes.of(bundle, kept := kept_in(bundle))
    rest = classes.without(label)
    _write(bundle, rest.fitted(bundle, kept)[0] if rest.names else None)
    return Enrolled(classes.names[label], 0)


def _renamed(bundle: Bundle, name: str, new: str) -> Enrolled:
    label, enrolment = enrolled_label(bundle, name), bundle.enrolment
    assert enrolment
    new = free_name(bundle, new, instead_of=enrolment.names[label])
    names = tuple(new if k == label else other for k, other in enumerate(enrolment.names))
    _write(bundle, replace(enrolment, names=names))
    return Enrolled(new, enrolment.photographs[enrolment.names[label]])


def _write(bundle: Bundle, enrolment: Enrolment | None) -> None:
    assert bundle.folder is not None
    assert bundle.index is not None
    if enrolment:
        write_enrolment(bundle.folder, enrolment, bundle.index)
    else:
        remove_enrolment(bundle.folder)


def _tell_of_scores(run: Run, enrolled_as: str, listener: Listener) -> None:
    """Name the scores of a run that are of another model now."""
    folders = sorted(path.parent for path in run.evaluation("").glob("*/scores.json"))
    if old := [one.name for one in folders if read_scores(one).get("enrolment", "") != enrolled_as]:
        listener.note(f"Scores of the model before this, until they are made again: {', '.join(old)}")


def _odd_page(bundle: Bundle) -> Path:
    """Where odd photographs are shown: in the run or, for a bundle alone, beside it."""
    assert bundle.folder is not None
    run = opened_run(bundle.folder)
    return (
        run.folder / "enrolled.html" if run.exists else bundle.folder.with_name(f"{bundle.folder.name}-enrolled.html")
    )


def _page_of_odd(bundle: Bundle, html: str) -> Path:
    """Write the page about odd photographs into the run, in place of the one before; return where."""
    assert bundle.folder is not None
    page = _odd_page(bundle)
    write_bytes(page, html.encode())
    return page


def _tell(result: Enrolled, bundle: Bundle, page: Path | None, listener: Listener) -> None:
    if result.photographs < _TWO:
        listener.warn(
            f"One photograph shows little of {result.name}, and nothing can be held out to see how well it is "
            "recognised. To add others: --add"
        )
    if result.odd:
        them = "does" if len(result.odd) == 1 else "do"
        listener.warn(
            f"{counted(len(result.odd), 'photograph')} {them} not look like the others of {result.name}: "
            f"{first_few(result.odd)}. If another class is shown there, remove {result.name} and enrol it again. "
            f"They are shown in {page}"
        )
    if bundle.calibration is None:
        listener.note(
            "Nothing was held out in training (protocol=refit), so no promise is made, and how many images of other "
            "classes the new one takes is not measured"
        )
        return
    thresholds = Thresholds.of(bundle.calibration, bundle.taxonomy)
    for note in thresholds.notes or (thresholds.promise.kept,):
        listener.note(f"{note}.")


def _look(
    bundle: Bundle, earlier: Shown, photographs: Things, device: str, listener: Listener
) -> tuple[list[str], list[NDArray[np.uint8]], Shown, list[Skipped]]:
    """The names, views and answers of photographs as the network gives them without what is enrolled, and those
    skipped."""
    assert bundle.folder is not None
    predictor = Predictor.load(bundle.folder, device=device, engine="torch")
    predictor.model.enrolled = None
    names, views, skipped = list[str](), list[NDArray[np.uint8]](), list[Skipped]()
    logits, seen = [earlier.logits[:0]], earlier.embedding.astype(np.float64)
    for answered in predictor.stream(named(photographs, listener.note)):
        skipped += [Skipped(thing.name, str(error)) for thing, error in answered.skipped]
        if answered.output is None:
            continue
        own = unit(answered.output.embedding.astype(np.float64))
        again = _again(own, seen)
        for thing, shown, known in zip(answered.readable, answered.shown, again, strict=True):
            if known:
                skipped.append(Skipped(thing.name, f"{thing.name}: the same picture was given before"))
            else:
                names.append(thing.name)
                views.append(shown.pixels)
        logits.append(answered.output.logits[~again])
        seen = np.concatenate([seen, own[~again]])
    embedding = seen[len(earlier.labels) :].astype(np.float16)
    return names, views, Shown(np.concatenate(logits), embedding, np.zeros(len(names), np.int64)), skipped


def _again(own: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(B,) which of the pictures with embeddings (B, D) are the same as one that was seen (M, D), or as one before them
    that is not left out itself."""
    again: NDArray[np.bool_] = np.any(own @ seen.T > SAME, axis=1)
    alike = own @ own.T > SAME
    for at in range(len(own)):
        again[at] |= np.any(alike[at, :at] & ~again[:at])
    return again
