"""What makes a predictor's embeddings, as fingerprints: galleries of different makers cannot be compared."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from fieldmark.core.errors import RunError
from fieldmark.core.storage import as_json, tensor_digest
from fieldmark.gallery.store import FORMAT, Description, Maker

if TYPE_CHECKING:
    from fieldmark.answering.predictor import Predictor

__all__ = ["check_maker", "describe", "maker_of"]

_HEAD = ("head.", "attributes.", "centres")
"""The weights that read embeddings, or are only learnt by, and make none; the last are bilinear attention's."""
_DIFFERENCES = {
    "part": "of another part",
    "architecture": "of another network",
    "weights": "with other weights",
    "view": "that sees pictures otherwise (size, crop or normalisation)",
}


def maker_of(predictor: Predictor, part: str | None = None) -> Maker:
    """The fingerprints of a predictor's embeddings, or of the vectors of one part."""
    recipe, images, model = predictor.bundle.recipe, predictor.bundle.images, predictor.model
    weights = {name: one for name, one in model.weights().items() if not name.startswith(_HEAD)}
    seen = model.backbone.normalization
    pieces = {
        section: {"name": getattr(recipe, section).name}
        | getattr(recipe, section).model_dump(mode="json", exclude_defaults=True, exclude={"weights", "mean", "std"})
        for section in ("backbone", "neck", "method")
    }
    view = {
        "size": images.size,
        "crop": images.crop,
        "whole": images.whole,
        "mirror": model.mirrored,
        "grey_bits": images.grey_depth,
        "mean": list(seen.mean),
        "std": list(seen.std),
        "interpolation": seen.interpolation,
    }
    maker: Maker = {
        "network": f"{recipe.method.name} on {recipe.backbone.name}, {images.size} px",
        "architecture": _hash(pieces),
        "weights": tensor_digest(weights),
        "view": _hash(view),
    }
    if part is not None:
        maker["part"] = part
    return maker


def describe(maker: Maker, dimension: int, dtype: str = "float16") -> Description:
    """A new gallery's description."""
    known: Any = {"format": FORMAT, "id": secrets.token_hex(16), "dimension": dimension, "dtype": dtype}
    description: Description = known | {"maker": maker}
    return description


_SEARCH_ELSEWHERE = (
    "Search it with the run that it was indexed with, or index the photographs with this one into another place "
    "(--gallery)."
)


def check_maker(place: str, found: Maker, expected: Maker, *, hint: str = _SEARCH_ELSEWHERE) -> None:
    """Raise RunError, with this hint, for a gallery of another maker; it says which, and how they differ."""
    wrong = [words for key, words in _DIFFERENCES.items() if found.get(key) != expected.get(key)]
    if not wrong:
        return
    raise RunError(
        f"The gallery {place} is of another model, one {wrong[0]}: {_words(found)}, where this one is "
        f"{_words(expected)}",
        hint,
    )


def _words(maker: Maker) -> str:
    part = f", part {maker['part']!r}" if "part" in maker else ""
    return f"{maker['network']}{part} (weights {maker['weights'][:8]})"


def _hash(values: Any) -> str:
    return hashlib.sha256(as_json(values).encode()).hexdigest()
