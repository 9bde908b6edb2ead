"""Next: which photographs to label, and a page on which a person labels them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.rows import answer_rows
from fieldmark.answering.unlabelled import unlabelled_facts, unlabelled_files
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.claims import claim
from fieldmark.core.errors import RunError
from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.machine import AUTO
from fieldmark.core.storage import explained, read_rows, write_bytes, write_rows
from fieldmark.core.wording import counted
from fieldmark.data.catalog import Catalog
from fieldmark.data.decisions import Decisions, read_decisions, undecided
from fieldmark.data.readers.columns import Columns
from fieldmark.evaluation.outputs import joined
from fieldmark.labelling.asking import COLUMNS, Asked, ask
from fieldmark.labelling.choosing import FEW, is_early
from fieldmark.labelling.collecting import Answered, answered, unlabelled_catalog
from fieldmark.labelling.page import Beside, Item, compose_labelling, shown_file
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.facts import Unlabelled
from fieldmark.runs.opening import catalog_of, opened_run
from fieldmark.runs.run import Run

__all__ = ["next"]


def next(
    run: Path | str,
    unlabelled: Path | str | Sequence[Path | str] | None = None,
    *,
    columns: Columns | None = None,
    decisions: Sequence[Path | str] = (),
    root: Path | str | None = None,
    out: Path | str | None = None,
    most: int = 50,
    balanced: bool = False,
    device: str = AUTO,
    listener: Listener | None = None,
) -> tuple[Asked, ...]:
    """Choose the photographs from which the run would learn most if they were labelled, `most` at a time.

    `unlabelled` are files, folders, globs or tables; the run remembers them, and so do runs that are trained on it, so
    None means those of the last time. What is in the run's data already, or in the tables of `decisions`, is left out;
    of copies and of the frames of a burst, one is asked. With few labels these are the centres of what is not labelled
    yet, later what the model is unsure of; if `balanced`, classes with few labels come first. `out`, by default
    RUN/next, gets `next.csv`, whose column `label` can be filled in, and `index.html`, where a person labels by
    keyboard; a `next.csv` of the last time that has labels is kept as `next-1.csv`, …. Give either table to
    `fieldmark.train(decisions=…)`. Raises RunError and DataError.
    """
    listener = listener or Listener()
    opened, predictor = opened_run(Path(run)), Predictor.load(run, device=device)
    if not opened.exists:
        raise RunError(f"{run} is a bundle alone, which does not know its training images", "Give the run's folder.")
    decided = read_decisions(decisions)
    files, asked_of = _files(opened, unlabelled, columns, listener)
    folder = Path(out) if out is not None else opened.folder / "next"
    claim(folder, "what to label next")
    _set_aside(folder, listener)
    with relayed_warnings(listener):
        catalog = catalog_of(opened, None, root, listener)
    opened.keep_unlabelled(asked_of)
    files = _open(files, catalog, opened.decisions().then(decided))
    found = _asked(opened, predictor, catalog, files, most, balanced, listener) if files else ()
    if not found:
        listener.note("Nothing is left to label: all these photographs are in the data, or were decided about")
    write_rows(folder / "next.csv", COLUMNS, (one.row() for one in found))
    page = compose_labelling(
        "next",
        [_item(one, catalog, predictor.bundle) for one in found],
        predictor.classes,
        title=f"To label next: {catalog.name}",
        intro=_intro(len(found), len(files)),
        file="labels.csv",
        then=f"fieldmark train {opened.folder} --decisions labels.csv",
    )
    write_bytes(folder / "index.html", page.encode())
    listener.hear(Done("next", folder))
    return tuple(found)


def _set_aside(folder: Path, listener: Listener) -> None:
    """Give a table in which somebody has written labels another name: nobody else has them."""
    table = folder / "next.csv"
    if not table.exists() or not any(row["label"] for row in read_rows(table, ["label"])):
        return
    number = 1
    while (kept := folder / f"next-{number}.csv").exists():
        number += 1
    with explained(kept):
        table.rename(kept)
    listener.note(f"The labels in {table} are kept as {kept}: give both to --decisions")


def _files(
    run: Run, unlabelled: Path | str | Sequence[Path | str] | None, columns: Columns | None, listener: Listener
) -> tuple[list[Path], Unlabelled | None]:
    """The photographs, each once and with its absolute path, and what the run will remember of them."""
    if unlabelled is None:
        if (known := run.unlabelled()) is None:
            raise RunError(
                f"{run.folder} does not know which photographs to choose from", f"Name them: next {run.folder} PHOTOS."
            )
        unlabelled, columns = known["paths"], known.get("columns")
    facts = unlabelled_facts(unlabelled, columns)
    return unlabelled_files(facts, listener.note), facts


def _open(files: Sequence[Path], catalog: Catalog, decided: Decisions) -> list[Path]:
    """The files that are neither in the data nor decided about."""
    known = {os.path.abspath(catalog.file(row)) for row in range(len(catalog))}
    return [file for file in undecided(files, catalog.root, decided) if str(file) not in known]


def _asked(
    run: Run,
    predictor: Predictor,
    catalog: Catalog,
    files: Sequence[Path],
    most: int,
    balanced: bool,
    listener: Listener,
) -> Sequence[Asked]:
    new, together = unlabelled_catalog(files, catalog, listener)
    if not len(new):
        return ()
    every = np.arange(len(new))
    told = answer_rows(predictor, new, every, predictor.engine, listener, stage="Looking at what has no label")
    unseen = Answered(new, told.rows, joined(told.outputs), together[told.rows])
    learnt = np.flatnonzero(np.isin(catalog.splits, ("train", "val")))
    alone = np.arange(len(catalog))
    known = answered(predictor, catalog, learnt, alone, listener, stage="Looking at what has a label")
    if is_early(len(known.rows), len(predictor.classes)) and not balanced:
        listener.note(
            f"There are fewer than {FEW} labels per class, so the centres of what has no label are asked about"
        )
    probabilities = np.exp(predictor.bundle.log_probabilities(unseen.outputs.logits))
    verdicts = Speaker.of(predictor.bundle).verdicts(unseen.paths, unseen.outputs)
    return ask(unseen, probabilities, verdicts, known, most, balanced=balanced, seed=run.recipe().seed)


def _intro(asked: int, left: int) -> str:
    if not asked:
        return "Nothing is left to label: all these photographs are in the data, or were decided about."
    return (
        f"{counted(asked, 'photograph')} of {left:,} without a label, from which the model would learn most. Those "
        "that it takes for the same class come together: press G to see them side by side."
    )


def _item(one: Asked, catalog: Catalog, bundle: Bundle) -> Item:
    grey_bits = bundle.images.grey_depth
    beside = tuple(
        Beside(shown_file(catalog.file_at(path), small=True, grey_bits=grey_bits), "most alike, labelled", label)
        for label, path in one.hints
    )
    return Item(
        one.path,
        None,
        tuple(candidate.label for candidate in one.verdict.candidates),
        one.verdict.label,
        shown_file(Path(one.path), grey_bits=grey_bits),
        (one.fact,),
        beside,
    )
