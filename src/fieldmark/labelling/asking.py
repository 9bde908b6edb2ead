"""`Asked`: a photograph that should be labelled next, with what the model thinks of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.verdict import Verdict
from fieldmark.labelling.choosing import choose, top_margin
from fieldmark.labelling.collecting import Answered
from fieldmark.labelling.neighbours import look_alikes

__all__ = ["COLUMNS", "Asked", "ask"]

COLUMNS: Final = ("path", "label", "guess", "probability", "margin")
_HINTS = 2


@final
@dataclass(frozen=True)
class Asked:
    """A photograph to label. The column `label` of next.csv is left empty, to be filled in."""

    path: str
    verdict: Verdict
    margin: float
    """The probability of the likeliest class minus that of the next."""
    hints: tuple[tuple[str, str], ...]
    """(class, path) of labelled photographs of the likeliest classes, the ones most like it."""

    @property
    def fact(self) -> str:
        """What the model says of it."""
        verdict = self.verdict
        sure = "" if verdict.sureness is None else f" ({100 * verdict.sureness:.0f} %)"
        return f"The model says: {verdict.said}{sure}."

    def row(self) -> tuple[object, ...]:
        """A row of next.csv, as COLUMNS says."""
        return self.path, "", self.verdict.label, f"{self.verdict.probability:.4f}", f"{self.margin:.4f}"


def ask(
    new: Answered,
    probabilities: NDArray[np.float64],
    verdicts: Sequence[Verdict],
    known: Answered,
    most: int,
    *,
    balanced: bool = False,
    seed: int = 0,
) -> list[Asked]:
    """The photographs of `new` (N) to label next, given their calibrated probabilities (N, K) and verdicts (N).

    Of what belongs together, the one that the model is least sure of stands for all. What is guessed to be the same
    comes together, larger groups first.
    """
    margins = top_margin(probabilities)
    order = np.argsort(margins, kind="stable")
    _, first = np.unique(new.units[order], return_index=True)
    alone = np.sort(order[first])
    embedding = new.outputs.embedding
    learnt, labels = known.outputs.embedding, known.labels
    chosen = alone[choose(probabilities[alone], embedding[alone], learnt, labels, most, balanced=balanced, seed=seed)]
    guessed = probabilities.argmax(axis=1)
    sizes = np.bincount(guessed[chosen], minlength=probabilities.shape[1])
    chosen = np.array(sorted(chosen, key=lambda at: (-sizes[guessed[at]], guessed[at], margins[at])), np.int64)
    likeliest = np.argsort(-probabilities[chosen], axis=1, kind="stable")[:, :_HINTS]
    nobody = np.full(len(chosen), -1)
    alike = np.stack(
        [look_alikes(embedding[chosen], nobody, learnt, labels, known.units, wanted) for wanted in likeliest.T], axis=1
    )
    return [
        Asked(
            new.paths[at],
            verdicts[at],
            float(margins[at]),
            tuple((known.catalog.classes[labels[row]], known.paths[row]) for row in rows if row >= 0),
        )
        for at, rows in zip(chosen, alike, strict=True)
    ]
