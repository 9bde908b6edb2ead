"""What a bundle was exported to, beside its own files: a network that answers without torch.

    model.onnx     the graph; see `fieldmark.exporting.graph`
    onnx.json      the SHA-256 of it, which state of the bundle it was made of, and how it was checked

Both can be deleted: the bundle answers without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Len
from typing_extensions import TypedDict

from fieldmark.core.reading import read_json
from fieldmark.core.storage import explained, json_bytes, write_bytes
from fieldmark.runs.description import known_bytes

if TYPE_CHECKING:
    from fieldmark.runs.bundle import Bundle

__all__ = ["ONNX", "read_onnx", "write_onnx"]

ONNX = "model.onnx"
_ABOUT = "onnx.json"
_HINT = f"Export the run again, or delete {_ABOUT}."


class _About(TypedDict):
    """onnx.json."""

    sha256: Annotated[str, Len(64, 64)]
    state: Annotated[str, Len(64, 64)]
    precision: str
    checked: dict[str, Any]


def write_onnx(bundle: Bundle, data: bytes, *, precision: str, checked: Mapping[str, Any]) -> Path:
    """Keep a graph in the bundle that it was made of, in place of an earlier one; return where. Raises StorageError."""
    assert bundle.folder is not None
    about = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "state": bundle.state,
        "precision": precision,
        "checked": dict(checked),
    }
    with explained(bundle.folder / _ABOUT):
        (bundle.folder / _ABOUT).unlink(missing_ok=True)  # a crash in between leaves a graph that nobody uses
    write_bytes(bundle.folder / ONNX, data)
    write_bytes(bundle.folder / _ABOUT, json_bytes(about))
    return bundle.folder / ONNX


def read_onnx(bundle: Bundle) -> bytes | None:
    """The graph; None if there is none, or if classes were enrolled or taken out since.

    Raises RunError if it is damaged, or was changed.
    """
    if bundle.folder is None:
        return None
    try:
        about = read_json(bundle.folder / _ABOUT, _About, hint=f"Delete it to answer without {ONNX}.")
        if about["state"] != bundle.state:
            return None
        return known_bytes(bundle.folder / ONNX, {ONNX: about["sha256"]}, listed_in=_ABOUT, hint=_HINT)
    except (FileNotFoundError, NotADirectoryError):
        return None
