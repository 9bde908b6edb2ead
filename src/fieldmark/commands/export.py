"""Export: a bundle as a file that answers without Fieldmark."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from fieldmark.answering.onnx import INSTALL, OnnxEngine, has_onnx
from fieldmark.answering.predictor import Predictor
from fieldmark.core.claims import check_replaceable
from fieldmark.core.errors import RunError
from fieldmark.core.listener import Done, Listener
from fieldmark.core.storage import make_folder, write_bytes
from fieldmark.exporting.checking import TOLERANCE, Checked, Pictures
from fieldmark.exporting.narrow import Precision, narrowed
from fieldmark.runs.exported import write_onnx
from fieldmark.runs.opening import opened_run

__all__ = ["Exported", "Form", "export"]

Form = Literal["onnx"]
_MOST_LOST = 0.01


@final
@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    checked: Checked
    size: int
    """In bytes."""

    @property
    def said(self) -> str:
        """In words."""
        return f"{self.path} ({self.size / 1e6:.1f} MB). {self.checked.said}"


def export(
    run: Path | str,
    to: Form = "onnx",
    *,
    out: Path | str | None = None,
    precision: Precision = "fp32",
    allow_loss: bool = False,
    root: Path | str | None = None,
    listener: Listener | None = None,
) -> Exported:
    """Write the network of a run as an ONNX graph, with the rules of its verdicts in the metadata.

    In full precision the graph becomes part of the bundle, which then answers without torch where ONNX Runtime is
    installed; `out` writes it elsewhere. "fp16" and "int8" are written to RUN/exports. They are refused if they lose
    more than a point of accuracy, unless `allow_loss`. What is lost is measured on the run's validation images; `root`
    says where they are, if they were moved.

    Raises RunError if a package is missing, for a network that cannot be expressed, and for a graph that answers
    otherwise.
    """
    listener = listener or Listener()
    _check_installed()
    from fieldmark.exporting.graph import METADATA, annotated, graph_of

    opened, predictor = opened_run(Path(run)), Predictor.load(run, device="cpu", engine="torch")
    bundle = predictor.bundle
    if out is not None:
        check_replaceable(Path(out))
    pictures = Pictures.of(opened, root, listener)
    listener.note(f"Exporting {bundle.recipe.method.name} on {bundle.recipe.backbone.name}")
    graph = narrowed(graph_of(bundle), precision, pictures.views(predictor))
    checked = pictures.compared(predictor, OnnxEngine(graph.SerializeToString(), bundle), listener)
    _refuse(checked, precision, allow_loss)
    own = {"precision": precision, "checked": checked.as_dict()}
    data = annotated(graph, f"{METADATA}.checked", own).SerializeToString()
    if out is None and precision == "fp32":
        path = write_onnx(bundle, data, precision=precision, checked=checked.as_dict())
    else:
        path = Path(out) if out is not None else opened.folder / "exports" / f"model-{precision}.onnx"
        make_folder(path.parent)
        write_bytes(path, data)
    listener.hear(Done("export", path))
    return Exported(path, checked, len(data))


def _check_installed() -> None:
    """Raise RunError if a package is missing, before anything takes time."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing or not has_onnx():
        raise RunError(f"To export takes the package {', '.join(missing) or 'onnxruntime'}, which is missing", INSTALL)


def _refuse(checked: Checked, precision: Precision, allow_loss: bool) -> None:
    """Raise RunError for a graph that answers otherwise."""
    if precision == "fp32" and checked.largest_difference > TOLERANCE * max(1.0, checked.largest_logit):
        raise RunError(
            f"The graph does not answer as the network does. {checked.said}",
            "Please report it, with the recipe of the run: the bundle itself is not affected.",
        )
    if checked.lost > _MOST_LOST and not allow_loss:
        what = "% of the answers change" if checked.accuracy is None else "points of accuracy are lost"
        raise RunError(
            f"In {precision}, {100 * checked.lost:.1f} {what}. {checked.said}",
            "Keep full precision, or accept that with --allow-loss.",
        )
