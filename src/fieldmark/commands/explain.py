"""Explain: why one image is A and not B."""

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
    """Why `image` is the likeliest class A and not B, the runner-up or `versus`.

    `image` is one of what `Predictor.predict` takes. Examples come from the run's training images; `root` says where
    they are now, if they were moved. Without them they are left out, and `notes` says so. Raises ImageError for an
    image that cannot be read, and RunError for a class that is not known or is the answer itself.
    """
    return Explainer(run, root=Path(root) if root else None, device=device)(image, versus)
