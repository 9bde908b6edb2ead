"""`Dataset`: what is known of a published data set, and the layouts in which copies of it lie on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fieldmark.data.catalog import Catalog

__all__ = ["CLASS_FOLDERS", "Dataset", "Layout", "Tell"]

CLASS_FOLDERS = "class folders in train/ and test/"
"""A layout that is accepted for every data set."""

Tell = Callable[[str], None]
"""Gets a line of text about whatever takes long: a download, files that are written."""


def _as_it_lies(folder: Path, tell: Tell) -> Path:
    return folder


@dataclass(frozen=True)
class Layout:
    """One way in which a data set can lie on disk."""

    files: tuple[str, ...]
    """What makes a folder one of this layout: names or patterns below it, those of folders with a slash at the end."""
    read: Callable[[Path], Catalog]
    unpack: Callable[[Path, Tell], Path] = _as_it_lies
    """What is done before reading: it takes the folder and returns the folder that `read` gets."""
    shown: str = ""
    """How messages name `files`; the files themselves by default."""

    def is_begun(self, folder: Path) -> bool:
        """Whether at least half of `files` are in `folder`, and one of them is a file: then it is nothing else."""
        missing = self.missing(folder)
        some_file = any(not name.endswith("/") and name not in missing for name in self.files)
        return some_file and 2 * len(missing) <= len(self.files)

    def __str__(self) -> str:
        return self.shown or ", ".join(self.files)

    def missing(self, folder: Path) -> list[str]:
        """Those of `files` that are not in `folder`."""
        if not folder.is_dir():
            return list(self.files)
        return [name for name in self.files if next(folder.glob(name), None) is None]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A published data set."""

    name: str
    """What commands call it."""
    title: str
    num_images: int
    num_classes: int
    annotations: str
    """What the data set has besides labels and splits; "" for nothing."""
    terms: str
    """Licence or terms of use, in short."""
    home: str
    """Where it is published."""
    folder: str
    """What its archive unpacks to, and what torchvision expects in a root; "" where it has no folder of its own."""
    layouts: tuple[Layout, ...]
    """The layouts, in the order in which they are tried."""
    download_gb: float
    torchvision: str = ""
    """torchvision's class that downloads it; "" where there is no download."""
    no_download: str = ""
    """Why there is no download."""

    def as_dict(self) -> dict[str, str | int | float | bool | None]:
        """What is known about it, as JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "images": self.num_images,
            "classes": self.num_classes,
            "annotations": self.annotations,
            "terms": self.terms,
            "home": self.home,
            "download_gb": self.download_gb,
            "downloaded_by_fieldmark": bool(self.torchvision),
        }
