"""Whether a backbone and its weights exist, found out without torch: a misspelt name is answered at once."""

from __future__ import annotations

import os
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
from fieldmark.model.installed import installed_backbones, package_of

__all__ = ["check_backbone", "listed_backbones", "settled_weights", "weights_file", "weights_name"]

_NOT_FILES = ("auto", "hub", "installed", "none")

_REGISTERED = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


def check_backbone(choice: Backbone) -> None:
    """Raise RecipeError for a model that timm does not have, and WeightsError for a missing file or package."""
    known = _known_backbones()
    for one in choice.each:
        if one.name.split(".")[0] not in known:
            raise RecipeError(f"There is no backbone {one.name!r} in timm", nearest(one.name, known))
        if choice.weights == "installed":
            package_of(one.name)
    if choice.weights not in _NOT_FILES and not os.path.isfile(weights_file(choice.weights)):
        raise WeightsError(
            f"The weights file {choice.weights} does not exist",
            "Give a .safetensors file, 'auto' for installed or else downloaded weights, or 'none' for random ones.",
        )


def settled_weights(choice: Backbone) -> Backbone:
    """The same with what "auto" means on this machine: weights that are installed, or else the hub's."""
    if choice.weights != "auto":
        return choice
    here = installed_backbones()
    known = all(one.name.split(".")[0] in here for one in choice.each)
    return choice.model_copy(update={"weights": "installed" if known else "hub"})


def weights_file(weights: str) -> Path:
    """The file of a recipe's `weights`; small ones, trained on drawings of other species, come with Fieldmark."""
    if weights == "fieldguide":
        return Path(str(resources.files("fieldmark") / "fieldguide" / "weights.safetensors"))
    return Path(weights)


def weights_name(choice: Backbone) -> str:
    """The name of the initial weights: "hub", "none" or "fieldguide"; for a file or a package, its name and a hash."""
    choice = settled_weights(choice)
    if choice.weights == "installed":
        packages = [package_of(one.name) for one in choice.each]
        return ", ".join(f"{package.requirement} (sha256 {package.sha256[:16]})" for package in packages)
    file = Path(choice.weights)
    return f"{file.name} (sha256 {sha256_of(file)[:16]})" if os.path.isfile(file) else choice.weights


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
