"""The licence of pretrained weights, which binds what is trained from them."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open
from typing_extensions import TypedDict

from fieldmark.core.errors import RunError
from fieldmark.core.reading import read_json
from fieldmark.core.recipe import NONE, Backbone
from fieldmark.model.choosing import each_of
from fieldmark.model.hub import configured
from fieldmark.model.installed import package_of

__all__ = ["UNKNOWN", "is_noncommercial", "weights_license"]

UNKNOWN = "unknown"
_RESEARCH_ONLY = {"apple-amlr", "seer-license"}
"""Licences that allow research only and do not say so in their name."""


class Licensed(TypedDict):
    """The provenance of a bundle, as far as it is asked for here."""

    license: str


class Bundled(TypedDict):
    """The model.json of a bundle, as far as it is asked for here."""

    provenance: Licensed


def weights_license(choice: Backbone) -> str:
    """An SPDX identifier or the name that timm has for it; "none" without weights, "unknown" where nothing tells. Those
    of several networks that have weights, with "and" between them.

    Of a bundle's weights it is that of the weights which the bundle was trained from; other files may name theirs as
    `license` in their metadata.
    """
    found = dict.fromkeys(_license(one) for one in each_of(choice))
    return " and ".join([one for one in found if one != NONE] or [NONE])


def _license(choice: Backbone) -> str:
    match choice.weights:
        case "none":
            return NONE
        case "fieldguide":
            return "apache-2.0"
        case "installed":
            return package_of(choice.name).license
        case "hub":
            return getattr(configured(choice.name), "license", None) or UNKNOWN
    path = Path(choice.weights)
    try:
        return read_json(path.with_name("model.json"), Bundled)["provenance"]["license"]
    except (OSError, RunError):
        pass  # no bundle
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("license") or UNKNOWN
    except (OSError, SafetensorError):
        return UNKNOWN  # loading it will say what is wrong


def is_noncommercial(license: str) -> bool:
    """Whether it forbids commercial use; of several, whether one of them does."""
    return any(
        one in _RESEARCH_ONLY or re.search(r"(^|-)nc(-|$)|non-?commercial", one.lower())
        for one in license.split(" and ")
    )
