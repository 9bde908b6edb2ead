"""Which backbones have their weights on this machine: installed with a package, or downloaded before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fieldmark.core.errors import WeightsError
from fieldmark.core.listener import Listener
from fieldmark.model.installed import PACKAGES, check_package

__all__ = ["WeightsHere", "weights_at_hand"]


class WeightsHere(NamedTuple):
    """Weights that need no download."""

    backbone: str
    source: Literal["installed", "hub"]
    """"hub": downloaded before."""
    file: Path


def weights_at_hand(listener: Listener | None = None) -> Iterator[WeightsHere]:
    """Those that are installed first. `listener` hears of packages that are altered or have lost their file."""
    for name, package in PACKAGES.items():
        if not (package.path or package.is_recorded):
            continue
        try:
            check_package(name)
        except WeightsError as error:
            (listener or Listener()).note(f"{error.problem}, so {name} is passed over. Run {package.repair}")
            continue
        assert package.path is not None
        yield WeightsHere(name, "installed", package.path)
    yield from _downloaded()


def _downloaded() -> Iterator[WeightsHere]:
    """Models of timm whose weights the hub's client has kept."""
    import timm
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    kept = {folder.name for folder in Path(HF_HUB_CACHE).glob("models--*")}
    for name in timm.list_models(pretrained=True) if kept else ():
        config: Any = timm.get_pretrained_cfg(name)
        repository = getattr(config, "hf_hub_id", None)
        if repository and f"models--{repository.replace('/', '--')}" in kept:
            path = try_to_load_from_cache(repository, config.hf_hub_filename or "model.safetensors")
            if isinstance(path, str) and Path(path).is_file():
                yield WeightsHere(name, "hub", Path(path))
