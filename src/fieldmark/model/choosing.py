"""Whether a backbone and its weights exist, found out without torch: a misspelt name is answered at once."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Collection
from functools import cache
from importlib import resources
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from fieldmark.core.errors import RecipeError, WeightsError
from fieldmark.core.recipe import Backbone
from fieldmark.core.storage import sha256_of
from fieldmark.model.installed import (
    check_package,
    installed_backbones,
    installed_like,
    others_installed,
    package_of,
)

__all__ = [
    "check_backbone",
    "each_of",
    "knows_nothing",
    "listed_backbones",
    "settled_weights",
    "sources_of",
    "weights_file",
    "weights_name",
]

_SOURCES = frozenset({"auto", "hub", "installed", "none"})
"""Weights that are no file."""

_NAMED = 3
"""Names that a hint lists."""

_REGISTERED = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


def each_of(choice: Backbone) -> tuple[Backbone, ...]:
    """The networks that it names, one by one. Raises RecipeError if it names weights for another number of them."""
    first, *others = choice.name.split("+")
    if not others:
        return (choice,)
    words = choice.weights.split("+")
    sources = words if len(words) > 1 and set(words) <= _SOURCES else [choice.weights] * (1 + len(others))
    if len(sources) != 1 + len(others):
        raise RecipeError(
            f"backbone.weights = {choice.weights!r} says it of {len(sources)} networks, and {choice.name!r} names "
            f"{1 + len(others)}",
            "Give one word for each, or one for all.",
        )
    return (
        choice.model_copy(update={"name": first, "weights": sources[0]}),
        *(
            choice.model_copy(update={"name": name, "weights": source, "mean": None, "std": None})
            for name, source in zip(others, sources[1:], strict=True)
        ),
    )


def sources_of(choice: Backbone) -> frozenset[str]:
    """Where the weights of its networks come from."""
    return frozenset(one.weights for one in each_of(choice))


def knows_nothing(choice: Backbone) -> bool:
    """Whether all of its networks start from random weights."""
    return sources_of(choice) == {"none"}


def check_backbone(choice: Backbone, *, weights: bool = True) -> None:
    """Raise RecipeError for a model that timm does not have and, if `weights` will be read, WeightsError for a missing
    file or package."""
    known = _known_backbones()
    for one in each_of(choice):
        if one.name.split(".")[0] not in known:
            raise RecipeError(f"There is no backbone {one.name!r} in timm", _meant(one.name, known))
        if weights and one.weights == "installed":
            check_package(one.name)
    if weights and not sources_of(choice) <= _SOURCES and not os.path.isfile(weights_file(choice.weights)):
        raise WeightsError(
            f"The weights file {choice.weights} does not exist",
            "Give a .safetensors file, 'auto' for installed or else downloaded weights, or 'none' for random ones.",
        )


def _meant(name: str, known: Collection[str]) -> str:
    """A hint for a name that timm does not have: names like it, first those whose weights are installed."""
    plain = name.split(".")[0].lower().replace("-", "_")
    here, within = installed_like(name), sorted((one for one in known if plain in one), key=lambda one: (len(one), one))
    found = [*here, *within] or difflib.get_close_matches(plain, known, n=1, cutoff=0.5)
    if not found:
        return f"Give the name of a model in timm. {others_installed()}"
    installed = installed_backbones()
    said = [f"{one!r}{' (installed)' if one in installed else ''}" for one in list(dict.fromkeys(found))[:_NAMED]]
    return f"Did you mean {' or '.join(said)}?"


def settled_weights(choice: Backbone) -> Backbone:
    """The same with what "auto" means on this machine: weights that are installed, or else the hub's."""
    if "auto" not in sources_of(choice):
        return choice
    here = installed_backbones()
    found = [
        one.weights if one.weights != "auto" else "installed" if one.name.split(".")[0] in here else "hub"
        for one in each_of(choice)
    ]
    return choice.model_copy(update={"weights": found[0] if len(set(found)) == 1 else "+".join(found)})


def weights_file(weights: str) -> Path:
    """The file of a recipe's `weights`; small ones, trained on drawings of other species, come with Fieldmark."""
    if weights == "fieldguide":
        return Path(str(resources.files("fieldmark") / "fieldguide" / "weights.safetensors"))
    return Path(weights)


def weights_name(choice: Backbone) -> str:
    """The name of the initial weights: "hub", "none" or "fieldguide"; for a file or a package, its name and a hash."""
    choice = settled_weights(choice)
    if "installed" in sources_of(choice):
        return ", ".join(_source(one) for one in each_of(choice))
    file = Path(choice.weights)
    return f"{file.name} (sha256 {sha256_of(file)[:16]})" if os.path.isfile(file) else choice.weights


def _source(choice: Backbone) -> str:
    if choice.weights != "installed":
        return choice.weights
    package = package_of(choice.name)
    return f"{package.requirement} (sha256 {package.sha256[:16]})"


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
