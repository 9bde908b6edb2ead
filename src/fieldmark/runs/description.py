"""What the files of a bundle hold, as types: `Description` for model.json, and the index of SHA-256."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Interval, Len
from typing_extensions import TypedDict

from fieldmark.core.errors import RunError
from fieldmark.core.reading import MOST, parse_json, read_json, read_regular, reason
from fieldmark.core.wording import brief
from fieldmark.data.names import normal
from fieldmark.evaluation.calibration import Values

__all__ = [
    "AGAIN",
    "FORMAT",
    "INDEX",
    "Description",
    "Index",
    "Provenance",
    "describe",
    "digests",
    "index_of",
    "known_bytes",
]

FORMAT = 2
INDEX = "index.json"
AGAIN = "Copy the bundle again."
_MOST_WEIGHTS = 32 * 2**30
_WITH_WEIGHTS = ("model.safetensors", "model.onnx")


class Piece(TypedDict):
    """A section of the recipe; the recipe itself checks its keys."""

    name: str


class Provenance(TypedDict):
    """Where a bundle comes from. There is more, for readers only."""

    license: NotRequired[str]
    calibrated: NotRequired[bool]
    unlearnt: NotRequired[list[str]]
    seed: NotRequired[Annotated[int, Interval(ge=0, lt=2**32)]]
    finished: NotRequired[str]


class Plugin(TypedDict):
    """A piece that does not come with Fieldmark."""

    name: str
    package: str
    version: str


_Names = Annotated[list[str], Len(1, 1_000_000)]


class Description(TypedDict):
    """model.json."""

    format: int
    indexed: NotRequired[bool]
    """Whether there must be an index; bundles of before have neither."""
    classes: _Names
    taxonomy: dict[str, _Names]
    attributes: NotRequired[dict[str, _Names]]
    interpolation: Literal["bicubic", "bilinear", "lanczos"]
    images: dict[str, Any]
    backbone: Piece
    neck: Piece
    method: Piece
    head: Piece
    labels: NotRequired[dict[str, Any]]
    plugins: NotRequired[dict[str, Plugin]]
    calibration: NotRequired[Values | None]
    parts: NotRequired[list[str]]
    provenance: Provenance


class Index(TypedDict):
    """index.json."""

    sha256: dict[str, Annotated[str, Len(64, 64)]]


def index_of(files: Mapping[str, bytes]) -> Index:
    """The contents of index.json for these files."""
    return {"sha256": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}}


def digests(folder: Path) -> Mapping[str, str] | None:
    """The SHA-256 of each file of a bundle, by name; None for a bundle of before, which has no index."""
    try:
        return read_json(folder / INDEX, Index, hint=AGAIN)["sha256"]
    except (FileNotFoundError, NotADirectoryError):
        return None


def known_bytes(path: Path, index: Mapping[str, str] | None, *, listed_in: str = INDEX, hint: str = AGAIN) -> bytes:
    """The contents of a file of a bundle, which are those that the index, a file called `listed_in`, knows.

    Raises FileNotFoundError or NotADirectoryError if it is absent, and RunError if it cannot be read or has changed.
    """
    try:
        data = read_regular(path, most=_MOST_WEIGHTS if path.name in _WITH_WEIGHTS else MOST)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {reason(error)}", hint) from None
    if index is not None and hashlib.sha256(data).hexdigest() != index.get(path.name):
        raise RunError(f"{path} is damaged: its SHA-256 is not the one in {listed_in}", hint)
    return data


def describe(folder: Path, index: Mapping[str, str] | None) -> Description:
    """What model.json says. Raises RunError if there is none, or if it is damaged or of another format."""
    path = folder / "model.json"
    try:
        data = known_bytes(path, index)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{folder} is neither a finished run nor a bundle: it has no {path.name}",
            _nearby(folder) or "Give the folder of a run that has finished (--resume finishes one that was stopped).",
        ) from None
    try:
        version = parse_json(data, dict[str, Any]).get("format")
        if version != FORMAT:
            raise RunError(
                f"{folder} has the format {brief(version)}, but this version of Fieldmark reads {FORMAT}",
                "Use the version that wrote it, or train again.",
            )
        found = _normal(parse_json(data, Description))
        _check_names(found)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}", AGAIN) from None
    if found.get("indexed") and index is None:
        raise RunError(f"{folder} is incomplete: it has no {INDEX}, by which damage would be noticed", AGAIN)
    return found


def _nearby(folder: Path) -> str:
    """A hint for a misspelt run: the finished one beside it whose name is nearest; "" if there is none."""
    if os.path.lexists(folder):
        return ""
    others = [path.parent.parent.name for path in folder.parent.glob("*/bundle/model.json")]
    close = difflib.get_close_matches(folder.name, others, n=1)
    return f"Did you mean {folder.with_name(close[0])}?" if close else ""


def _normal(found: Description) -> Description:
    """The same with names as they are compared; earlier bundles have them as they were typed."""
    return {
        **found,
        "classes": list(map(normal, found["classes"])),
        "taxonomy": {normal(level): list(map(normal, names)) for level, names in found["taxonomy"].items()},
        "attributes": {normal(one): list(map(normal, values)) for one, values in found.get("attributes", {}).items()},
    }


def _check_names(found: Description) -> None:
    """Raise ValueError for a name that stands for two things, and for a class without a name at some level."""
    for place, names in {"classes": found["classes"], **found.get("attributes", {})}.items():
        if len(set(names)) < len(names):
            raise ValueError(f"{place} has a name twice")
    for level, names in found["taxonomy"].items():
        if len(names) != len(found["classes"]):
            raise ValueError(f"taxonomy.{level} has {len(names):,} names for {len(found['classes']):,} classes")
