"""Export: a bundle as a file that answers without Fieldmark."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from fieldmark.answering.onnx import INSTALL, OnnxEngine
from fieldmark.answering.predictor import Predictor
from fieldmark.core.claims import check_replaceable, claim, fill
from fieldmark.core.errors import RunError
from fieldmark.core.listener import Done, Listener
from fieldmark.core.storage import make_folder, write_bytes
from fieldmark.core.wording import not_installed
from fieldmark.exporting.checking import Checked, Pictures, example_pictures
from fieldmark.exporting.narrow import Precision, narrowed
from fieldmark.exporting.runtime import runtime_files
from fieldmark.exporting.triton import repository
from fieldmark.exporting.web import site
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.exported import read_onnx, write_onnx
from fieldmark.runs.opening import opened_run
from fieldmark.runs.run import Run

__all__ = ["Exported", "Form", "export"]

Form = Literal["onnx", "web", "triton"]
_MOST_LOST = 0.01


@final
@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    size: int
    """In bytes, of all files."""
    checked: Checked | None = None
    """How the graph was compared with the network; None if that was done before."""

    @property
    def said(self) -> str:
        """In words."""
        written = f"{self.path} ({self.size / 1e6:.1f} MB)"
        return f"{written}. {self.checked.said}" if self.checked else written


def export(
    run: Path | str,
    to: Form = "onnx",
    *,
    out: Path | str | None = None,
    precision: Precision = "fp32",
    allow_loss: bool = False,
    examples: int = 0,
    title: str | None = None,
    runtime: Path | str | None = None,
    root: Path | str | None = None,
    listener: Listener | None = None,
) -> Exported:
    """Write a run in another form.

    "onnx" is its network as an ONNX graph, with the rules of its verdicts in the metadata. In full precision the graph
    becomes part of the bundle, which then answers without torch where ONNX Runtime is installed; `out` writes it
    elsewhere. "fp16" and "int8" are written to RUN/exports. They are refused if they lose more than a point of
    accuracy, unless `allow_loss`. What is lost is measured on the run's validation images; `root` says where they are,
    if they were moved.

    "web" is a page that answers in a browser, in the folder `out` (by default RUN/exports/web). `title` is what it is
    called. With `examples`, it shows so many training photographs of each class, reduced and without metadata; nobody
    sees any otherwise. `runtime` is the file of the npm package onnxruntime-web, if npm cannot fetch it.

    "triton" is a model repository for Triton Inference Server, in the folder `out` (by default RUN/exports/triton).

    Raises RunError if a package is missing, for a network that cannot be expressed, and for a graph that answers
    otherwise; StorageError for an `out` that is not Fieldmark's.
    """
    listener = listener or Listener()
    if to != "web" and (examples or title or runtime):
        raise RunError("Examples, a title and a runtime belong to a page", "Add --to web, or leave them out.")
    opened = opened_run(Path(run))
    work = _Work(opened, Bundle.load(run), precision, allow_loss, root, listener)
    place = Path(out) if out is not None else opened.folder / "exports" / to
    if to == "web":
        found = work.page(place, title or opened.folder.name, examples, None if runtime is None else Path(runtime))
    elif to == "triton":
        found = work.repository(place)
    else:
        found = work.file(None if out is None else Path(out))
    listener.hear(Done("export", found.path))
    return found


@dataclass(frozen=True, eq=False)
class _Work:
    """What every form is made from."""

    opened: Run
    bundle: Bundle
    precision: Precision
    allow_loss: bool
    root: Path | str | None
    listener: Listener

    def file(self, out: Path | None) -> Exported:
        """The graph as a file; in full precision, that of the bundle if no other is named."""
        if out is not None:
            check_replaceable(out)
        data, checked = self._new_graph()
        if out is None and self.precision == "fp32":
            path = write_onnx(self.bundle, data, precision=self.precision, checked=checked.as_dict())
            return Exported(path, len(data), checked)
        path = out or self.opened.folder / "exports" / f"model-{self.precision}.onnx"
        make_folder(path.parent)
        write_bytes(path, data)
        return Exported(path, len(data), checked)

    def page(self, place: Path, title: str, examples: int, runtime: Path | None) -> Exported:
        """A page that answers in a browser."""
        claim(place, "a page")
        files = runtime_files(runtime)
        graph, checked = self._graph()
        shown = example_pictures(Predictor(self.bundle), self.opened, examples, self.root) if examples else None
        return _written(place, site(self.bundle, graph, files, title=title, examples=shown), checked)

    def repository(self, place: Path) -> Exported:
        """A model repository for Triton."""
        claim(place, "a model repository")
        graph, checked = self._graph()
        return _written(place, repository(self.bundle, graph, self.opened.folder.name), checked)

    def _graph(self) -> tuple[bytes, Checked | None]:
        """The bundle's own graph if it is of this precision, or else a new one."""
        known = read_onnx(self.bundle) if self.precision == "fp32" else None
        return self._new_graph() if known is None else (known, None)

    def _new_graph(self) -> tuple[bytes, Checked]:
        """A graph in this precision, compared with the network."""
        _check_installed()
        from fieldmark.exporting.graph import METADATA, annotated, graph_of
        from fieldmark.model.graph import serialized

        predictor, pictures = Predictor(self.bundle), Pictures.of(self.opened, self.root, self.listener)
        self.listener.note(f"Exporting {self.bundle.recipe.method.name} on {self.bundle.recipe.backbone.name}")
        graph = narrowed(graph_of(self.bundle), self.precision, pictures.views(predictor))
        engine = OnnxEngine(serialized(graph), self.bundle)
        checked = pictures.compared(predictor, engine, self.listener)
        _refuse(checked, self.precision, self.allow_loss)
        own = {"precision": self.precision, "checked": checked.as_dict()}
        return serialized(annotated(graph, f"{METADATA}.checked", own)), checked


def _written(place: Path, files: Mapping[str, bytes], checked: Checked | None) -> Exported:
    """Nothing but these files in a folder that is Fieldmark's."""
    fill(place, files)
    return Exported(place, sum(map(len, files.values())), checked)


def _check_installed() -> None:
    """Raise RunError if a package is missing, before anything takes time."""
    needed = ("onnx", "onnxscript", "onnxruntime")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise RunError(f"Exporting needs {not_installed(missing)}", INSTALL)


def _refuse(checked: Checked, precision: Precision, allow_loss: bool) -> None:
    """Raise RunError for a graph that answers otherwise."""
    if precision == "fp32" and not checked.is_same:
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
