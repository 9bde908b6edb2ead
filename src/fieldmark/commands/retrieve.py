"""Retrieve: how well a search by likeness finds photographs of the same class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import stream
from fieldmark.answering.things import Skipped, Things
from fieldmark.core.errors import DataError
from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.machine import AUTO, num_decoders
from fieldmark.core.wording import counted
from fieldmark.data.names import lookup
from fieldmark.data.readers.columns import Columns
from fieldmark.evaluation.open_set import OpenSet, open_set
from fieldmark.evaluation.retrieval import Retrieval, retrieval
from fieldmark.gallery.photographs import Photograph, photographs

__all__ = ["Retrieved", "retrieve"]

Floats: TypeAlias = NDArray[np.float32]


class Retrieved(NamedTuple):
    """What was searched, and what was found."""

    retrieval: Retrieval
    num_pictures: int
    num_classes: int
    skipped: list[Skipped]
    """The pictures that cannot be read."""
    identified: OpenSet | None = None
    """Searches for a name, if they were asked for."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "pictures": self.num_pictures,
            "classes": self.num_classes,
            "queries": len(self.retrieval.queries),
            "scores": {name: vars(share) for name, share in self.retrieval.scores().items()},
            **(
                {"identified": {name: share and vars(share) for name, share in self.identified.scores().items()}}
                if self.identified
                else {}
            ),
            "skipped": [vars(one) for one in self.skipped],
        }


def retrieve(
    run: Path | str | Predictor,
    pictures: Things,
    *,
    unseen: bool = False,
    identify: bool = False,
    columns: Columns | None = None,
    device: str = AUTO,
    listener: Listener | None = None,
) -> Retrieved:
    """Search for each of the pictures among the others, and score what is found; see `fieldmark.evaluation.retrieval`.

    `pictures` are class folders, tables or whatever else gives labels and, where there are any, groups: pictures of
    one group do not find each other. With `unseen`, only pictures of classes that the run was not trained on. With
    `identify`, each picture also searches for its name, once as one that is known and once as a stranger; see
    `fieldmark.evaluation.open_set`. Raises DataError if no picture has a label, or if there is nothing to find.
    """
    listener = listener or Listener()
    predictor = run if isinstance(run, Predictor) else Predictor.load(run, device=device)
    known = lookup(predictor.bundle.trained.classes)
    vectors, labels, groups = list[Floats](), list[str](), list[str]()
    skipped, unlabelled = list[Skipped](), 0

    def wanted() -> Iterator[Photograph]:
        nonlocal unlabelled
        for one in photographs(pictures, columns=columns, tell=listener.note):
            if one.label is None:
                unlabelled += 1
            elif not (unseen and known(one.label)):
                yield one

    with relayed_warnings(listener):
        answers = stream(wanted(), lambda one: predictor.see(one.thing), predictor.engine, threads=num_decoders())
        for answered in answers:
            for one, error in zip(answered.things, answered.errors, strict=True):
                if error is not None:
                    skipped.append(Skipped(one.thing.name, str(error)))
                else:
                    labels.append(one.label or "")
                    groups.append(one.group or "")
            if answered.output is not None:
                vectors.append(answered.output.embedding)
    if not labels:
        what = "of a class that the run does not know" if unseen else "with a label"
        raise DataError(
            f"There is no picture {what}, so nothing tells what a search should find",
            "Sort photographs into one folder per class, or list them in a table with a column label.",
        )
    if unlabelled:
        listener.warn(f"{counted(unlabelled, 'picture')} without a label left out")
    names, codes = np.unique(labels, return_inverse=True)
    embedding = np.concatenate(vectors)
    found = retrieval(embedding, codes, groups)
    identified = open_set(embedding, codes, groups) if identify else None
    listener.hear(Done("retrieve", None))
    return Retrieved(found, len(labels), len(names), skipped, identified)
