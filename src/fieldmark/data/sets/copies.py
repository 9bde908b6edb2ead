"""`find` and `read`: a path or a data set's name → its folder → `Catalog`."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import tarfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.core.storage import cache_folder, new_folder
from fieldmark.core.wording import first_few
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.columns import Columns
from fieldmark.data.readers.read import checked, innermost, no_such_path, visible
from fieldmark.data.readers.read import read as read_path
from fieldmark.data.remote import is_remote
from fieldmark.data.scan import scan
from fieldmark.data.sets.dataset import CLASS_FOLDERS, Dataset, Layout, Tell
from fieldmark.data.sets.known import DATASETS, is_named_after, named
from fieldmark.data.splits import split_called

__all__ = ["copy_of", "find", "read"]

_SILENCE_SECONDS = 30
_ARCHIVES = (".tgz", ".tar", ".gz", ".zip")


def _nobody(text: str) -> None:
    pass


def read(
    data: Path | str,
    root: Path | str | None = None,
    *,
    columns: Columns | None = None,
    fewest: int = 2,
    tell: Tell = _nobody,
) -> Catalog:
    """Read the data at a path, or the data set of that name; an existing path wins.

    A copy of a named data set is looked for in `root`, or in `data/` and in the user's cache folder; if there is none,
    it is downloaded as `find` says. At a path, the layouts of the known data sets are recognised too. `columns` says
    which columns of a table hold what, such as {"path": "filename", "label": "species"}; `fewest` is how many classes
    are needed. Raises DataError; gives DataWarnings as `fieldmark.data.readers.read` does.
    """
    path = find(data, root, tell=tell)
    if columns:
        return read_path(path, columns, fewest=fewest)
    if (found := _recognised(path)) is not None:
        folder, layout = found
        return checked(layout.read(layout.unpack(folder, tell)), fewest)
    if (half := _half_there(path)) is not None:  # before folders are taken for classes: cars_train and cars_test
        raise half
    return read_path(path, fewest=fewest)


def find(data: Path | str, root: Path | str | None = None, *, tell: Tell = _nobody) -> Path:
    """The absolute path of `data`, which is downloaded if it is the name of a data set and there is no copy.

    The download is torchvision's, into `root` or else `datasets/` in the user's cache folder. Raises DataError if
    there is nothing, if a copy is incomplete, and if there is no download or it fails; the error says which files to
    put where.
    """
    if is_remote(data):
        return Path(data)
    path = Path(data).expanduser()
    if os.path.exists(path):
        if root is not None:
            warnings.warn(f"{path} exists, so the root {root} is not used", DataWarning, stacklevel=2)
        return path.absolute()
    dataset = named(data)
    if dataset is None:
        raise no_such_path(path.absolute(), DATASETS if len(path.parts) == 1 else ())
    places = _places(root)
    if (folder := copy_of(dataset, root)) is not None:
        return folder
    if not dataset.torchvision:
        raise _not_at_hand(dataset, places, f"Fieldmark does not download it, because {dataset.no_download}")
    return _download(dataset, places, tell)


def copy_of(dataset: Dataset, root: Path | str | None = None) -> Path | None:
    """The folder of a copy on this machine. Raises DataError if one is incomplete and no other is complete."""
    half: DataError | None = None
    for place in _places(root):
        for folder in _candidates(dataset, place):
            if any(not layout.missing(folder) for layout in dataset.layouts):
                return folder
            trusted = folder != place or root is not None
            if trusted and _holds_class_folders(dataset, folder):
                return folder
            half = half or _incomplete(dataset, folder, is_its_own=folder != place)
    if half is not None:
        raise half
    return None


def _places(root: Path | str | None) -> list[Path]:
    if root is None:
        return [Path("data").absolute(), cache_folder().absolute() / "datasets"]
    place = Path(root).expanduser().absolute()
    if not place.parent.is_dir() or (place.exists() and not place.is_dir()):
        raise DataError(f"The root {place} is not a folder", "Give the folder that contains the data sets.")
    return [place]


def _candidates(dataset: Dataset, place: Path) -> list[Path]:
    """The folders in `place` that are named after the data set, and `place` itself."""
    if not place.is_dir():
        return []
    own = [entry for entry in visible(place) if entry.is_dir() and is_named_after(entry, dataset)]
    return [*(_stepped_into(folder, dataset) for folder in own), place]


def _stepped_into(folder: Path, dataset: Dataset) -> Path:
    """The first of `folder` and the lone folders within it that is of a layout, else begun as one, else the last."""
    chain = _chain(folder)
    whole = [step for step in chain if any(not layout.missing(step) for layout in dataset.layouts)]
    begun = [step for step in chain if any(layout.is_begun(step) for layout in dataset.layouts)]
    return [*whole, *begun, chain[-1]][0]


def _chain(path: Path) -> list[Path]:
    """A path and the lone folders within, down to the innermost: archives often unpack so."""
    names = innermost(path).relative_to(path).parts
    return [path.joinpath(*names[:depth]) for depth in range(len(names) + 1)]


def _recognised(path: Path) -> tuple[Path, Layout] | None:
    """The layout of a known data set that a path is of, and the folder in or below it that is."""
    for folder in _chain(path):
        for dataset in DATASETS.values():
            for layout in dataset.layouts:
                if not layout.missing(folder):
                    return folder, layout
    return None


def _holds_class_folders(dataset: Dataset, folder: Path) -> bool:
    """Whether a folder holds as many class folders as the data set has classes; a DataWarning says what it lacks."""
    tops = [entry.name for entry in visible(folder) if entry.is_dir()]
    if len(tops) != dataset.num_classes and not any(split_called(name) == "train" for name in tops):
        return False  # by the names on top alone, since a root may hold millions of files
    classes, num_images, splits = _class_folders(folder)
    if len(classes) != dataset.num_classes:
        return False
    lacks = []
    if num_images < dataset.num_images:
        lacks.append(f"{num_images:,} of {dataset.num_images:,} images")
    if not splits:
        lacks.append("no official splits")
    if lacks:
        them = " and ".join(lacks)
        warnings.warn(
            f"{folder} holds {them} of {dataset.title}, so scores are not comparable with published ones",
            DataWarning,
            stacklevel=3,
        )
    return True


class _ClassFolders(NamedTuple):
    classes: set[str]
    num_images: int
    splits: set[str]


def _class_folders(folder: Path) -> _ClassFolders:
    images = {parts: names for parts, names in scan(folder).images.items() if parts}
    tops = {parts[0] for parts in images if split_called(parts[0]) and len(parts) > 1}
    return _ClassFolders({parts[-1] for parts in images}, sum(map(len, images.values())), tops)


# ---- errors if there is no complete copy


def _incomplete(dataset: Dataset, folder: Path, *, is_its_own: bool = False) -> DataError | None:
    """The error where a folder holds only some of the data set: by its name, or by half of the files of a layout."""
    if not is_its_own and not any(layout.is_begun(folder) for layout in dataset.layouts):
        return None
    layout = min(dataset.layouts, key=lambda layout: len(layout.missing(folder)) / len(layout.files))
    missing = layout.missing(folder)
    classes = _class_folders(folder).classes if len(missing) == len(layout.files) else set()
    if classes:
        lacks = f"it has {len(classes):,} class folders, but {dataset.title} has {dataset.num_classes:,} classes"
    else:
        lacks = f"{first_few(missing, 6)} {'is' if len(missing) == 1 else 'are'} missing"
    if archives := [entry.name for entry in visible(folder) if entry.suffix in _ARCHIVES]:
        hint = f"Unpack {first_few(archives)} there."
    else:
        again = ", or remove the folder so that Fieldmark downloads it again" if dataset.torchvision else ""
        hint = f"Finish the download from {dataset.home}{again}."
    return DataError(f"The copy of {dataset.title} in {folder} is incomplete: {lacks}", hint)


def _half_there(path: Path) -> DataError | None:
    """The error where a path holds some of a data set's files, and would be taken for something else."""
    errors = (_incomplete(dataset, step) for step in _chain(path) for dataset in DATASETS.values())
    return next((error for error in errors if error is not None), None)


def _not_at_hand(dataset: Dataset, places: list[Path], why: str) -> DataError:
    looked = " and ".join(str(place) for place in places)
    layouts = "; or ".join(dict.fromkeys([*map(str, dataset.layouts), CLASS_FOLDERS]))
    return DataError(
        f"There is no copy of {dataset.title} in {looked}. {why}",
        f"Get it from {dataset.home} and put this into {places[0] / dataset.folder}: {layouts}.",
    )


# ---- downloads


def _download(dataset: Dataset, places: list[Path], tell: Tell) -> Path:
    """By torchvision's class, which checks what it gets; the folder appears when it is whole."""
    import torchvision

    folder = places[-1] / dataset.folder
    tell(f"Downloading {dataset.title} ({dataset.download_gb:g} GB; terms: {dataset.terms}) into {folder}")
    with new_folder(folder) as scratch:
        try:
            with _silence_ends():
                getattr(torchvision.datasets, dataset.torchvision)(scratch / "download", download=True)
        except (OSError, RuntimeError, http.client.HTTPException, tarfile.TarError, EOFError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise _not_at_hand(dataset, places, f"Its download failed: {reason}") from error
        for entry in (scratch / "download" / dataset.folder).iterdir():
            if entry.suffix not in _ARCHIVES:
                entry.rename(scratch / entry.name)
        shutil.rmtree(scratch / "download")
    return folder


@contextmanager
def _silence_ends() -> Iterator[None]:
    """A server that is silent for long is an error, not an endless wait."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
