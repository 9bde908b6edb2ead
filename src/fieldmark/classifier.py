"""`Classifier`: Fieldmark with the interface of scikit-learn."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Things
from fieldmark.commands.train import train
from fieldmark.core.errors import DataError
from fieldmark.core.machine import AUTO
from fieldmark.core.wording import counted
from fieldmark.data.catalog import Catalog
from fieldmark.data.names import normal

__all__ = ["Classifier"]


class Classifier(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier of images.

    >>> classifier = Classifier(recipe="probe").fit(paths, labels)
    >>> classifier.predict(["new.jpg"]), classifier.predict_proba(["new.jpg"])

    For `fit`, X is a sequence of image files and y are their class names; afterwards X may be anything that
    `Predictor` accepts. The run is kept in the folder `out`, if one is given. `fit` learns from all rows (protocol
    "refit"), because scikit-learn's callers hold out their own.
    """

    def __init__(
        self,
        recipe: str = "finetune",
        backbone: str | None = None,
        weights: str | None = None,
        overrides: Sequence[str] = (),
        out: str | None = None,
        device: str = AUTO,
    ) -> None:
        self.recipe = recipe
        self.backbone = backbone
        self.weights = weights
        self.overrides = overrides
        self.out = out
        self.device = device

    def fit(self, X: Sequence[Path | str], y: Sequence[str]) -> Self:
        """Train on images and labels. Raises DataError and the other FieldmarkErrors of `fieldmark.train`."""
        catalog = _catalog(X, y)
        with tempfile.TemporaryDirectory() as scratch:
            run = train(
                catalog,
                self.recipe,
                out=Path(self.out or scratch) / ("" if self.out else "run"),
                backbone=self.backbone,
                weights=self.weights,
                overrides=["protocol=refit", *self.overrides],
                device=self.device,
            )
            self.predictor_ = Predictor.load(run.folder, device=self.device)
        # the caller's own labels, which may be numbers, in the bundle's order
        named = {normal(str(label)): label for label in y}
        self.classes_ = np.array([named[name] for name in self.predictor_.classes])
        return self

    def predict(self, X: Things) -> NDArray[np.str_]:
        """Return class names (N,)."""
        probabilities = self.predict_proba(X)
        names: NDArray[np.str_] = self.classes_[probabilities.argmax(1)]
        return names

    def predict_proba(self, X: Things) -> NDArray[np.float64]:
        """Return probabilities (N, K), in the order of `classes_`."""
        check_is_fitted(self)
        return self.predictor_.predict_proba(X)

    def embed(self, X: Things) -> NDArray[np.float32]:
        """Return embeddings (N, D) of unit length."""
        check_is_fitted(self)
        return self.predictor_.embed(X)


def _catalog(files: Sequence[Path | str], labels: Sequence[str]) -> Catalog:
    if len(files) != len(labels):
        raise DataError(
            f"The number of labels does not match: {counted(len(files), 'image')}, {counted(len(labels), 'label')}",
            "Give one label for each image.",
        )
    if missing := [str(file) for file in files if not Path(file).is_file()]:
        raise DataError(
            f"{len(missing):,} of {counted(len(files), 'image')} cannot be found, such as {missing[0]}",
            "Check the paths.",
        )
    classes, index = np.unique(np.array([normal(str(label)) for label in labels]), return_inverse=True)
    n = len(files)
    return Catalog(
        name="images",
        root=Path("/"),
        paths=tuple(Path(file).resolve().as_posix().lstrip("/") for file in files),
        labels=index.astype(np.int64),
        classes=tuple(classes.tolist()),
        splits=np.full(n, "train", dtype="<U5"),
        groups=np.full(n, "", dtype="<U1"),
    )
