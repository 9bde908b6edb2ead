"""`Result` holds everything that a leaderboard needs of one finished run, and is small enough to keep beside code.

For a thousand images it takes 5 kB: one bit for each correct answer and two bytes for the likelihood of each label.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, final

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray
from typing_extensions import TypedDict

from fieldmark.core.errors import RunError
from fieldmark.core.machine import processor
from fieldmark.core.reading import parse_json, read_regular, reason
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import read_rows, write_json
from fieldmark.data.catalog import Catalog
from fieldmark.model.build import num_parameters
from fieldmark.model.choosing import weights_name
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.facts import Memory
from fieldmark.runs.record import read_scores
from fieldmark.runs.run import Run

__all__ = ["Result", "answered_rows", "data_digest"]

_FORMAT: Final = 2
_LEAST: Final = 1e-30
"""The lowest likelihood of a label, so that its logarithm is finite."""
_AGAIN: Final = "If files have changed, remove the folder of the run and compare again."
_COLUMNS: Final = ("path", "correct", "label_probability")
_PLAIN: Final = ("data", "weights", "settings", "curve", "seconds", "learning_speed", "answering_speed", "memory")


class ResultValues(TypedDict):
    """The file of a result. Arrays are in base64."""

    format: Literal[2]
    recipe: str
    seed: Annotated[int, Interval(ge=0, lt=2**32)]
    split: Literal["val", "crossfit", "test"]
    data: str
    weights: str
    settings: dict[str, Any]
    num_images: Annotated[int, Interval(ge=1, lt=2**40)]
    correct: str
    nll: str
    curve: list[Annotated[float, Interval(ge=0, le=1)]]
    seconds: Annotated[float, Interval(ge=0)]
    learning_speed: float | None
    answering_speed: float | None
    memory: Memory
    num_parameters: Annotated[int, Interval(ge=0, lt=2**53)]
    machine: dict[str, Any]
    looks: int | None


@final
@dataclass(frozen=True, eq=False)
class Result:
    """One recipe, trained with one seed, and its answers for one split of N images, in the order of their paths."""

    recipe: str
    seed: int
    split: str
    """The split: val, crossfit or test."""
    data: str
    """A hash of the images that were used; see `data_digest`."""
    weights: str
    """The initial weights of the backbone; see `fieldmark.model.choosing`."""
    settings: Mapping[str, Any]
    """The recipe with every default written out, but without seed and weights."""
    correct: NDArray[np.bool_]
    """(N,) whether each answer is correct."""
    nll: NDArray[np.float32]
    """(N,) the negative log-likelihood of each label in nats, rounded to three digits."""
    curve: tuple[float, ...]
    """The validation accuracy after each epoch; () if there were none."""
    seconds: float
    """The training time, including the validation after each epoch. Of a sitting that was killed, the steps count."""
    learning_speed: float | None
    """The images per second in training; None if there were no steps."""
    answering_speed: float | None
    """The images per second in validation; None if it was too short to measure."""
    memory: Mapping[str, int]
    """The most bytes used; see `Run.memory`."""
    num_parameters: int
    machine: Mapping[str, Any]
    looks: int | None
    """How often this test split has been scored on the machine, by any model."""

    @classmethod
    def of(cls, run: Run, catalog: Catalog, split: str, *, recipe: str, digest: str) -> Self:
        """The result of a finished run on `catalog`. Raises RunError if predictions do not cover the split."""
        settings, folder, bundle = run.recipe(), run.evaluation(split), Bundle.load(run.folder)
        written = {row["path"]: row for row in read_rows(folder / "predictions.csv", _COLUMNS, hint=_AGAIN)}
        asked = [catalog.paths[row] for row in answered_rows(catalog, split)]
        if set(written) != set(asked):
            raise RunError(
                f"The predictions in {folder} are not for the {split} images of this comparison",
                _AGAIN,
            )
        answers = [written[path] for path in asked]
        try:
            likelihood = np.array([float(row["label_probability"]) for row in answers])
        except ValueError as error:
            raise RunError(f"{folder / 'predictions.csv'} cannot be read: {error}", _AGAIN) from None
        history = [line for line in run.history() if line["fit"] == "model"]
        validated = sorted(line.get("validation_seconds", 0.0) for line in history)
        return cls(
            recipe=recipe,
            seed=settings.seed,
            split=split,
            data=digest,
            weights=weights_name(settings.backbone),
            settings=portable(settings),
            correct=np.array([row["correct"] == "1" for row in answers]),
            nll=_rounded(-np.log(np.maximum(likelihood, _LEAST))),
            curve=tuple(line["val_top1"] for line in history if "val_top1" in line),
            seconds=max(run.times().get("training", 0.0), run.step_seconds()),
            learning_speed=_speed(history[-1]["step"] * settings.train.batch_size, history[-1]["seconds"])
            if history
            else None,
            answering_speed=_speed(len(catalog.rows("val")), validated[len(validated) // 2]) if validated else None,
            memory=run.memory(),
            num_parameters=num_parameters(bundle.recipe, bundle.trained.task),
            machine={**vars(run.machine()), "processor": processor()},
            looks=read_scores(folder)["looks"],
        )

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    def save(self, file: Path) -> None:
        """Write the result as JSON. Accuracy and mean likelihood are written for readers only; `load` ignores them."""
        write_json(
            file,
            {
                "format": _FORMAT,
                "recipe": self.recipe,
                "seed": self.seed,
                "split": self.split,
                "num_images": len(self.correct),
                "top1": round(self.accuracy, 4),
                "mean_nll": round(float(self.nll.mean()), 4),
                "correct": base64.b64encode(np.packbits(self.correct).tobytes()).decode(),
                "nll": base64.b64encode(self.nll.astype("<f2").tobytes()).decode(),
                **{name: getattr(self, name) for name in _PLAIN},
                "num_parameters": self.num_parameters,
                "machine": self.machine,
                "looks": self.looks,
            },
        )

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote. Raises RunError if it cannot be read."""
        try:
            values, number = (found := parse_json(read_regular(file), ResultValues)), found["num_images"]
            correct, nll = _bytes(values["correct"], np.dtype(np.uint8)), _bytes(values["nll"], np.dtype("<f2"))
            if (len(correct), len(nll)) != (-(-number // 8), number) or not np.isfinite(nll).all():
                raise ValueError(f"it does not have {number:,} answers with a finite likelihood each")
            kept = {one.name: values[one.name] for one in fields(cls)}  # type: ignore[literal-required]  # the type's own names
            kept["correct"] = np.unpackbits(correct, count=number).astype(bool)
            return cls(**kept | {"nll": nll.astype(np.float32), "curve": tuple(values["curve"])})
        except (OSError, ValueError) as error:
            raise RunError(
                f"The result in {file} cannot be read ({reason(error)})",
                "Remove the file; the run is then read again, or trained again if it is gone.",
            ) from None


def portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it is kept, without what differs between seeds and machines."""
    return recipe.model_dump(mode="json", exclude={"seed": True, "backbone": {"weights"}}, exclude_none=True)


def data_digest(catalog: Catalog, pictures: NDArray[np.uint64] | None = None) -> str:
    """A hash of the split, label and path of every image, independent of where their common folder is; and of their
    contents, where the digest (N,) of each one's file is given."""
    files = [os.path.abspath(catalog.file(row)) for row in range(len(catalog))]
    above = os.path.commonpath([os.path.dirname(file) for file in files])
    labels = (catalog.classes[label] for label in catalog.labels)
    contents = [""] * len(files) if pictures is None else [f"\t{digest:016x}" for digest in pictures]
    lines = sorted(
        "\t".join((split, label, os.path.relpath(file, above))) + content
        for split, label, file, content in zip(catalog.splits.tolist(), labels, files, contents, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def answered_rows(catalog: Catalog, split: str) -> list[int]:
    """The rows of val or test, or for crossfit those of train and val, in the order of their paths."""
    asked = ("train", "val") if split == "crossfit" else (split,)
    rows = np.flatnonzero(np.isin(catalog.splits, asked)).tolist()
    return sorted(rows, key=lambda row: os.path.abspath(catalog.file(row)))


def _speed(images: int, seconds: float) -> float | None:
    return round(images / seconds, 1) if images and seconds >= 1 else None


def _rounded(nll: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rounded as in `save`, so that a new result and a kept one are the same."""
    return nll.astype("<f2").astype(np.float32)


def _bytes(text: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)
