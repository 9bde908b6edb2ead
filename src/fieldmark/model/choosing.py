"""Whether a backbone and its weights exist, found out without torch: a misspelt name is answered at once."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib import resources
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from fieldmark.core.errors import RecipeError, WeightsError, nearest
from fieldmark.core.recipe import Backbone
from fieldmark.core.storage import sha256_of

__all__ = ["check_backbone", "listed_backbones", "weights_file", "weights_name"]

_REGISTERED = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


def check_backbone(choice: Backbone) -> None:
    """Raise RecipeError for a model that timm does not have, and WeightsError for a missing weights file."""
    known = _known_backbones()
    if choice.name.split(".")[0] not in known:
        raise RecipeError(f"There is no backbone {choice.name!r} in timm", nearest(choice.name, known))
    if choice.weights not in ("hub", "none") and not weights_file(choice.weights).is_file():
        raise WeightsError(
            f"The weights file {choice.weights} does not exist",
            "Give a .safetensors file, 'hub' to download weights, or 'none' to start from random ones.",
        )


def weights_file(weights: str) -> Path:
    """The file of a recipe's `weights`; small ones, trained on drawings of other species, come with Fieldmark."""
    if weights == "fieldguide":
        return Path(str(resources.files("fieldmark") / "fieldguide" / "weights.safetensors"))
    return Path(weights)


def weights_name(choice: Backbone) -> str:
    """The name of the initial weights: "hub", "none" or "fieldguide"; for a file, its name and a hash."""
    file = Path(choice.weights)
    return f"{file.name} (sha256 {sha256_of(file)[:16]})" if file.is_file() else choice.weights


@cache
def listed_backbones() -> frozenset[str]:
    """The models that timm registers, read from its source: importing it takes as long as torch does."""
    spec = find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    files = (Path(spec.origin).parent / "models").glob("*.py")
    return frozenset(name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8")))


def _known_backbones() -> frozenset[str]:
    own = any(group.startswith("fieldmark.") for group in entry_points().groups)
    if "timm" in sys.modules or own:  # a plug-in may register models of its own
        import timm

        return frozenset(timm.list_models())
    return listed_backbones()
