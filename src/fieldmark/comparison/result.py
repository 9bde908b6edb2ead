"""`Result`: all that a leaderboard needs of one finished run, small enough to be kept beside code.

Of a thousand images it takes 5 kB: which were right (a bit each) and the likelihood of their labels (two bytes each).
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import RunError
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import read_json, read_rows, write_json
from fieldmark.data.catalog import Catalog
from fieldmark.model.build import build_model
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run

__all__ = ["Result", "answered_rows", "data_digest", "weights_name"]

_FORMAT: Final = 1
_LEAST: Final = 1e-30
"""No label is less likely than that: its logarithm has to be finite."""
_PLAIN: Final = ("data", "weights", "settings", "curve", "seconds", "learning_speed", "answering_speed", "memory")


@final
@dataclass(frozen=True, eq=False)
class Result:
    """One recipe, trained with one seed, and its answers for one part: N images, in the order of their paths."""

    recipe: str
    seed: int
    part: str
    """val, crossfit or test."""
    data: str
    """Says which images were learnt from and answered; see `data_digest`."""
    weights: str
    """What the backbone started from; see `weights_name`."""
    settings: Mapping[str, Any]
    """The recipe, every default written out, without seed and weights."""
    correct: NDArray[np.bool_]
    """(N,)"""
    nll: NDArray[np.float32]
    """(N,) negative log-likelihood of each label in nats, rounded to three digits."""
    curve: tuple[float, ...]
    """Validation accuracy after each epoch; () where there were none."""
    seconds: float
    """Spent on training, with the validation after each epoch."""
    learning_speed: float | None
    """Images per second in training; None where there were no steps."""
    answering_speed: float | None
    """Images per second in validation; None where it is too short to tell."""
    memory: Mapping[str, int]
    """Most bytes taken; see `Run.memory`."""
    num_parameters: int
    machine: Mapping[str, Any]
    looks: int | None
    """How often this test part had been scored on the machine, by any model."""

    @classmethod
    def of(cls, run: Run, catalog: Catalog, part: str, *, recipe: str, digest: str) -> Self:
        """What is worth keeping of a finished run on `catalog`. Raises RunError where `part` was not answered whole."""
        settings, folder = run.recipe(), run.evaluation(part)
        written = {row["path"]: row for row in read_rows(folder / "predictions.csv")}
        asked = [catalog.paths[row] for row in answered_rows(catalog, part)]
        if set(written) != set(asked):
            raise RunError(
                f"{folder} does not answer the {part} images of this comparison",
                "Did files change meanwhile? Remove the run's folder and compare again.",
            )
        answers = [written[path] for path in asked]
        likelihood = np.array([float(row["label_probability"]) for row in answers])
        history = [line for line in run.history() if line["fit"] == "model"]
        validated = sorted(line.get("validation_seconds", 0.0) for line in history)
        return cls(
            recipe=recipe,
            seed=settings.seed,
            part=part,
            data=digest,
            weights=weights_name(settings),
            settings=portable(settings),
            correct=np.array([row["correct"] == "1" for row in answers]),
            nll=_rounded(-np.log(np.maximum(likelihood, _LEAST))),
            curve=tuple(line["val_top1"] for line in history if "val_top1" in line),
            seconds=run.times().get("training", 0.0),
            learning_speed=_speed(history[-1]["step"] * settings.train.batch_size, history[-1]["seconds"])
            if history
            else None,
            answering_speed=_speed(len(catalog.rows("val")), validated[len(validated) // 2]) if validated else None,
            memory=run.memory(),
            num_parameters=_num_parameters(Bundle.load(run.folder)),
            machine={**vars(run.machine()), "processor": processor()},
            looks=read_json(folder / "scores.json")["looks"],
        )

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    def save(self, file: Path) -> None:
        """Write it as JSON. What the answers come to is written for the reader's eye; `load` reads the answers."""
        write_json(
            file,
            {
                "format": _FORMAT,
                "recipe": self.recipe,
                "seed": self.seed,
                "part": self.part,
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
        """Read what `save` wrote. Raises RunError where it cannot be read."""
        try:
            values = read_json(file)
            if (version := values.pop("format")) != _FORMAT:
                raise ValueError(f"format {version!r}")
            number = values.pop("num_images")
            del values["top1"], values["mean_nll"]
            values["correct"] = np.unpackbits(_bytes(values["correct"], np.dtype(np.uint8)), count=number).astype(bool)
            values["nll"] = _bytes(values["nll"], np.dtype("<f2")).astype(np.float32)
            if len(values["nll"]) != number:
                raise ValueError(f"{len(values['nll'])} likelihoods of {number} images")
            return cls(**{**values, "curve": tuple(values["curve"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"The result in {file} cannot be read ({type(error).__name__}: {error})",
                "Remove the file; the run is then looked at, or trained, again.",
            ) from None


def portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it is kept: what differs between seeds and machines left out."""
    return recipe.model_dump(mode="json", exclude={"seed": True, "backbone": {"weights"}}, exclude_none=True)


def weights_name(recipe: Recipe) -> str:
    """ "hub", "none" or "fieldguide"; of a file its name and a hash, whatever folder it lies in."""
    file = Path(recipe.backbone.weights)
    if not file.is_file():
        return recipe.backbone.weights
    with file.open("rb") as stream:
        return f"{file.name} (sha256 {hashlib.file_digest(stream, 'sha256').hexdigest()[:16]})"


def data_digest(catalog: Catalog) -> str:
    """A hash of every image's part, label and path, wherever the folder that holds them all lies."""
    files = [os.path.abspath(catalog.file(row)) for row in range(len(catalog))]
    above = os.path.commonpath([os.path.dirname(file) for file in files])
    labels = (catalog.classes[label] for label in catalog.labels)
    lines = sorted(
        "\t".join((part, label, os.path.relpath(file, above)))
        for part, label, file in zip(catalog.splits.tolist(), labels, files, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def answered_rows(catalog: Catalog, part: str) -> list[int]:
    """The rows of val or test, or of crossfit (all that is learnt from), in the order of their paths."""
    parts = ("train", "val") if part == "crossfit" else (part,)
    rows = np.flatnonzero(np.isin(catalog.splits, parts)).tolist()
    return sorted(rows, key=lambda row: os.path.abspath(catalog.file(row)))


def processor() -> str:
    """As the kernel names it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="ignore").splitlines() if file.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _speed(images: int, seconds: float) -> float | None:
    return round(images / seconds, 1) if images and seconds >= 1 else None


def _rounded(nll: NDArray[np.float64]) -> NDArray[np.float32]:
    """As `save` keeps it, so that a fresh result and a kept one are the same."""
    return nll.astype("<f2").astype(np.float32)


def _bytes(text: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)


def _num_parameters(bundle: Bundle) -> int:
    """Of the network that answers."""
    return sum(tensor.numel() for tensor in build_model(bundle.recipe, bundle.task, load_weights=False).parameters())
