"""Classes that were enrolled into a bundle: what is on disk beside it.

    enrolled.json                  names, taxonomy, numbers of photographs; which bundle it belongs to
    enrolled-SHA.safetensors       what the network adds, the calibration of all classes, the photographs' embeddings

The bundle's own files stay as training wrote them, so that taking out what was enrolled restores it exactly. The file
of arrays is written first under a name of its own, and enrolled.json, which names it, in one step afterwards: a reader
sees the enrolment of before or the new one.

Shapes: K learnt classes, E enrolled ones, M photographs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, final

from annotated_types import Interval, Len
from typing_extensions import TypedDict

from fieldmark.core.arrays import parse_arrays
from fieldmark.core.errors import RunError
from fieldmark.core.reading import read_json, reason
from fieldmark.core.storage import array_bytes, explained, json_bytes, write_bytes
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.calibration import SHAPES, Calibration, Values
from fieldmark.evaluation.enrolment import GATE_SHAPES, SHOWN_SHAPES, Gate, Shown
from fieldmark.runs.description import AGAIN, known_bytes

__all__ = ["ENROLLED", "Enrolment", "read_enrolment", "remove_enrolment", "taxonomy_with", "write_enrolment"]

ENROLLED = "enrolled.json"


class _Class(TypedDict):
    name: str
    photographs: Annotated[int, Interval(ge=1, lt=2**53)]
    above: dict[str, str]


class _Description(TypedDict):
    """enrolled.json."""

    bundle: Annotated[str, Len(64, 64)]
    classes: Annotated[list[_Class], Len(1, 1_000_000)]
    calibration: Values | None
    arrays: Annotated[str, Len(64, 64)]


@final
@dataclass(frozen=True, eq=False)
class Enrolment:
    """Classes that photographs show, beside those that a bundle has learnt."""

    names: tuple[str, ...]
    """(E,)."""
    above: tuple[Mapping[str, str], ...]
    """(E,) the name of each at each level of the taxonomy."""
    shown: Shown
    gate: Gate
    calibration: Calibration | None
    """Of all K + E classes; None if the bundle is not calibrated."""

    @property
    def photographs(self) -> dict[str, int]:
        """By how many photographs each class is shown."""
        return dict(zip(self.names, self.shown.counts.tolist(), strict=True))

    @property
    def digest(self) -> str:
        """By which answers of before and after are told apart."""
        return _sha256(self._arrays() + json_bytes(self.names))

    def taxonomy(self, learnt: Taxonomy) -> Taxonomy:
        """The classes that were learnt and the enrolled ones."""
        return taxonomy_with(learnt, self.names, self.above)

    def _arrays(self) -> bytes:
        parts = {
            "gate": self.gate.arrays(),
            "shown": self.shown._asdict(),
            "calibration": self.calibration.arrays() if self.calibration else {},
        }
        return array_bytes({f"{part}.{name}": one for part, some in parts.items() for name, one in some.items()})


def taxonomy_with(learnt: Taxonomy, names: Sequence[str], above: Sequence[Mapping[str, str]]) -> Taxonomy:
    """The classes that were learnt and others, whose names at each level are `above` them."""
    levels = {level: (*known, *(one[level] for one in above)) for level, known in learnt.items()}
    return Taxonomy.of((*learnt.classes, *names), levels)


def write_enrolment(folder: Path, enrolment: Enrolment, index: Mapping[str, str]) -> None:
    """Write an enrolment beside the files of a bundle, which are those of the `index`, in place of an earlier one."""
    data = enrolment._arrays()
    digest = _sha256(data)
    description: _Description = {
        "bundle": _of(index),
        "classes": [
            {"name": name, "photographs": enrolment.photographs[name], "above": dict(above)}
            for name, above in zip(enrolment.names, enrolment.above, strict=True)
        ],
        "calibration": enrolment.calibration.values() if enrolment.calibration else None,  # type: ignore[typeddict-item]  # as `Values` has it
        "arrays": digest,
    }
    write_bytes(_place(folder, digest), data)
    write_bytes(folder / ENROLLED, json_bytes(description))
    _sweep(folder, _place(folder, digest))


def remove_enrolment(folder: Path) -> None:
    """Leave the bundle as training wrote it. Raises StorageError where nothing can be written."""
    with explained(folder / ENROLLED):
        (folder / ENROLLED).unlink(missing_ok=True)
        _sweep(folder, None)


def read_enrolment(folder: Path, learnt: Taxonomy, index: Mapping[str, str] | None) -> Enrolment | None:
    """What is enrolled in a bundle with these classes and files; None if nothing is. Raises RunError if it is damaged
    or belongs to another bundle."""
    try:
        found = read_json(folder / ENROLLED, _Description, hint=AGAIN)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"{folder / ENROLLED} cannot be read: {reason(error)}", AGAIN) from None
    if index is None or found["bundle"] != _of(index):
        raise RunError(
            f"The classes in {folder / ENROLLED} were enrolled in another bundle",
            "Remove this file to use the bundle without them, or copy the bundle again.",
        )
    names = tuple(one["name"] for one in found["classes"])
    above = tuple(one["above"] for one in found["classes"])
    all_names = [*learnt.classes, *names]
    if any(set(one) != set(learnt) for one in above) or len(set(all_names)) < len(all_names):
        raise RunError(f"{folder / ENROLLED} is damaged: its names do not go with those of the bundle", AGAIN)
    path = _place(folder, found["arrays"])
    sizes = {"E": len(names), "K": len(learnt.classes)}
    shapes = {f"gate.{k}": one for k, one in GATE_SHAPES.items()} | {f"shown.{k}": v for k, v in SHOWN_SHAPES.items()}
    own = {f"calibration.{name}": one for name, one in SHAPES.items()} if found["calibration"] else {}
    try:
        data = known_bytes(path, {path.name: found["arrays"]})
        arrays = parse_arrays(data, shapes, sizes) | parse_arrays(
            data, own, {"K": len(all_names), "L": 1 + len(learnt)}
        )
        shown = Shown(*(arrays[f"shown.{name}"] for name in Shown._fields))
        if shown.counts.tolist() != [one["photographs"] for one in found["classes"]]:
            raise ValueError("it has other photographs")
        gate = Gate.restored(_under("gate", arrays), len(names))
        if len(gate.expected) <= gate.num_new:
            raise ValueError("it knows no class that was learnt")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {reason(error)}", AGAIN) from None
    calibration = found["calibration"]
    restored = Calibration.restored(calibration, _under("calibration", arrays)) if calibration else None
    return Enrolment(names, above, shown, gate, restored)


def _under(part: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(f"{part}."): one for name, one in arrays.items() if name.startswith(f"{part}.")}


def _place(folder: Path, digest: str) -> Path:
    return folder / f"enrolled-{digest[:16]}.safetensors"


def _sweep(folder: Path, kept: Path | None) -> None:
    """Remove the arrays of earlier enrolments, and of one that was interrupted."""
    for path in folder.glob("enrolled-*.safetensors"):
        if path != kept:
            path.unlink(missing_ok=True)


def _of(index: Mapping[str, str]) -> str:
    return _sha256(json_bytes(dict(sorted(index.items()))))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
