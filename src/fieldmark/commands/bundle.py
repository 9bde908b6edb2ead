"""Bundle: a model's folder made ready to be passed on, with its card; and whether one that came is whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from fieldmark.answering.onnx import OnnxEngine, has_onnx
from fieldmark.answering.predictor import Predictor
from fieldmark.core.claims import claim, fill
from fieldmark.core.errors import RunError
from fieldmark.core.listener import Listener
from fieldmark.exporting.checking import compared
from fieldmark.reporting.card import CARD, write_card
from fieldmark.reporting.gathering import gathered
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.exported import read_onnx
from fieldmark.runs.opening import opened_run

__all__ = ["Shipped", "bundle"]

_OURS = ("*.safetensors", "*.json", "*.onnx", CARD)


@final
@dataclass(frozen=True)
class Shipped:
    """A bundle that is whole."""

    folder: Path
    size: int
    """In bytes."""
    notes: tuple[str, ...]
    """What is in it."""

    @property
    def said(self) -> str:
        """In words."""
        return f"{self.folder} ({self.size / 1e6:.1f} MB): {', '.join(self.notes)}"


def bundle(
    run: Path | str, *, out: Path | str | None = None, check: bool = False, listener: Listener | None = None
) -> Shipped:
    """Write the model card of a run into its bundle, and with `out` copy the bundle there, to be passed on.

    With `check`, nothing is written: every file is read by its checksum, and the network answers a picture, with each
    engine that the bundle has. Raises RunError for whatever is missing or damaged.
    """
    listener = listener or Listener()
    opened, found = opened_run(Path(run)), Bundle.load(run)
    assert found.folder is not None
    if check and out is not None:
        raise RunError("A check writes nothing", "Leave out --check or --out.")
    if out is not None and found.folder.resolve().is_relative_to(Path(out).resolve()):
        raise RunError(f"{out} holds the bundle that is to be copied", "Choose another folder with --out.")
    if not check and opened.exists and opened.is_finished:
        listener.note(f"The card: {write_card(gathered(opened.folder, None), found)}")
    notes = _whole(found)
    folder = found.folder
    if out is not None:
        folder = Path(out)
        claim(folder, "a bundle")
        fill(folder, {path.name: path for path in _files(found.folder)})
    return Shipped(folder, sum(path.stat().st_size for path in _files(folder)), notes)


def _files(folder: Path) -> list[Path]:
    return sorted({path for pattern in _OURS for path in folder.glob(pattern) if path.is_file()})


def _whole(found: Bundle) -> tuple[str, ...]:
    """What is in a bundle, once it has answered."""
    side = found.images.size
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, side, side), np.uint8)
    answers = Predictor(found).engine(noise)
    notes = [f"{len(found.classes):,} classes", "calibrated" if found.calibration else "not calibrated"]
    if found.photographs:
        notes.append(f"{len(found.photographs):,} of them enrolled")
    if found.read_kept() is not None:
        notes.append("more can be enrolled")
    if (graph := read_onnx(found)) is not None:
        if has_onnx() and not (checked := compared(answers, OnnxEngine(graph, found)(noise), "noise")).is_same:
            raise RunError(
                f"The graph in {found.folder} does not answer as the network does. {checked.said}",
                "Make it again with: fieldmark export RUN.",
            )
        notes.append("answers without PyTorch" if has_onnx() else "has a graph, not tried without ONNX Runtime")
    if found.index is None:
        notes.append("without checksums, since it is of an earlier version")
    return tuple(notes)
