"""Explain: why the answer for an image is A and not B."""

from __future__ import annotations

from pathlib import Path

from fieldmark.answering.explaining.explainer import Explainer
from fieldmark.answering.explaining.explanation import Explanation
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Things
from fieldmark.core.machine import AUTO

__all__ = ["explain"]


def explain(
    run: Path | str | Predictor,
    image: Things,
    versus: str | None = None,
    *,
    root: Path | str | None = None,
    device: str = AUTO,
) -> Explanation:
    """Explain why `image` is the most likely class A and not B, which is the runner-up or `versus`.

    `image` is a single thing that `Predictor.predict` takes. Examples come from the training images of the run; `root`
    is the folder that contains them if they were moved. If they are gone, the examples are left out, and `notes` says
    so. Raises ImageError for an image that cannot be read, and RunError if `versus` is unknown or is the answer itself.
    """
    return Explainer(run, root=Path(root) if root else None, device=device)(image, versus)
