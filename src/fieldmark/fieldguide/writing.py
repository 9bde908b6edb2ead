"""A field guide on disk: pictures, masks, the table, the truth, and two pages to show around.

    DEST/guide.json                       options, species, their marks and differences; written first
    DEST/images/<species>/<NNNN>.jpg      pictures; a copy is called after its original, such as 0007 mirrored.jpg
    DEST/masks/<species>/<NNNN>.png       index images: parts and marks of what can be seen of the bird
    DEST/guide.png  guide.html            every species on one picture; what the guide draws, on one page
    DEST/unknown/                         images, masks and catalog.csv of species that training must not see
    DEST/catalog.csv                      one line per picture; written last, so that its presence means "complete"

Pictures are JPEG (quality 95, colour at full resolution): a tenth of PNG's size and time, decoded on the same path as
photographs are, and the small coloured marks are not smeared as they would be with halved colour. Who reads DEST reads
its table, and so none of what is in `unknown`, which is data of its own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from typing_extensions import TypedDict

from fieldmark.core.errors import DataError, RunError
from fieldmark.core.reading import read_json
from fieldmark.core.storage import make_folder, read_rows, write_bytes, write_json, write_rows
from fieldmark.fieldguide.copies import changed, copy_of
from fieldmark.fieldguide.guide import Guide, HabitatRule, Kind, Options, make_guide
from fieldmark.fieldguide.render import Drawing, render
from fieldmark.fieldguide.sheet import contact_sheet
from fieldmark.fieldguide.truth import Sighting, row_of, sightings, truth_of

__all__ = ["draw", "read_guide"]


class OptionValues(TypedDict, total=False):
    """The fields of `Options`, which checks their range."""

    species: int
    images_per_species: int
    size: int
    seed: int
    habitat: HabitatRule
    kind: Kind
    noise: float
    duplicates: float
    unknown: int
    long_tail: float


class Truth(TypedDict):
    """What is read of guide.json."""

    format: Literal["fieldmark field guide"]
    version: Literal[1]
    options: OptionValues


_FORMAT, _VERSION = "fieldmark field guide", 1
"""The version changes whenever the same options give other pixels."""
_FEW = 64
"""So few pictures are drawn before a second process has started."""


def draw(
    dest: Path,
    *,
    species: int = 12,
    images_per_species: int = 60,
    size: int = 160,
    seed: int = 0,
    habitat: HabitatRule = "free",
    kind: Kind = "species",
    noise: float = 0.0,
    duplicates: float = 0.0,
    unknown: int = 0,
    long_tail: float = 1.0,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a field guide into `dest` and return it; a finished one of the same options is left as it is.

    `size` is the side of the square pictures in pixels. `kind` names what is to be told apart (see
    `fieldmark.fieldguide`); `noise` is the share of training pictures with a wrong label, `duplicates` that of pictures
    that are there twice, `unknown` the number of species that only `dest`/unknown has, `long_tail` how many times
    larger the largest class is in training than the smallest. The pictures depend on these options alone, never on
    `workers` (processes), and picture i of a species is the same however many are drawn. `progress` is told the number
    of pictures done and their total. Raises RecipeError for options that make no sense, and DataError where `dest`
    holds something else.
    """
    guide = make_guide(
        species=species,
        images_per_species=images_per_species,
        size=size,
        seed=seed,
        habitat=habitat,
        kind=kind,
        noise=noise,
        duplicates=duplicates,
        unknown=unknown,
        long_tail=long_tail,
    )
    dest = Path(dest)
    _claim(dest, guide.options)
    if _is_complete(dest) and (not unknown or _is_complete(dest / "unknown")):
        return dest
    from fieldmark.fieldguide.gallery import gallery  # plots are slow to import, and most who import this draw nothing

    write_json(dest / "guide.json", {"format": _FORMAT, "version": _VERSION} | truth_of(guide))
    write_bytes(dest / "guide.png", _encoded(contact_sheet(guide), "PNG", optimize=True))
    write_bytes(dest / "guide.html", gallery(guide).encode())
    folders = {dest / "unknown": list(sightings(guide, unknown=True)), dest: list(sightings(guide))}
    total, done = sum(map(len, folders.values())), 0
    for folder, pictures in folders.items():
        rows = []
        for drawn in _drawn(folder, guide, pictures, workers if total > _FEW else 1):
            rows += drawn
            done += 1
            if progress is not None:
                progress(done, total)
        if rows:
            write_rows(folder / "catalog.csv", rows[0], [list(row.values()) for row in rows])
    return dest


def read_guide(folder: Path) -> Guide:
    """The guide that was drawn into `folder`; raises DataError where there is none."""
    options = _options_in(Path(folder))
    if options is None:
        raise DataError(f"{folder} is not a field guide", "Draw one with `fieldmark draw DEST`.")
    return make_guide(**options)


def _options_in(folder: Path) -> dict[str, Any] | None:
    """The options of the guide in this folder, or None where there is no guide of this version."""
    try:
        truth = read_json(folder / "guide.json", Truth)
    except (OSError, RunError):
        return None
    options = truth["options"]
    return None if options.keys() - OptionValues.__annotations__ else dict(options)  # a later version has more


def _claim(dest: Path, options: Options) -> None:
    """Make `dest`, or make sure that what is there is this very guide."""
    if dest.is_file():
        raise DataError(f"{dest} is a file", "Choose a new or an empty folder.")
    if dest.is_dir() and any(dest.iterdir()):
        there = _options_in(dest)
        if there is None:
            raise DataError(f"{dest} is not empty and holds no field guide of this version", "Choose an empty folder.")
        found = asdict(Options(**there))  # a guide that was drawn before an option was there has its default
        for name, wanted in asdict(options).items():
            if found[name] != wanted:
                raise DataError(
                    f"{dest} holds a field guide with {name}={found[name]!r}, not {wanted!r}",
                    "Choose another folder, or delete that one first.",
                )
    make_folder(dest)


def _is_complete(dest: Path) -> bool:
    try:
        return all((dest / row["path"]).is_file() for row in read_rows(dest / "catalog.csv", ["path"]))
    except RunError:  # absent, or cut short
        return False


def _drawn(folder: Path, guide: Guide, pictures: list[Sighting], workers: int) -> Iterator[list[dict[str, Any]]]:
    work = partial(_draw_one, folder, guide)
    if workers <= 1:
        yield from map(work, pictures)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, pictures, chunksize=16)


def _draw_one(folder: Path, guide: Guide, sighting: Sighting) -> list[dict[str, Any]]:
    """Draw a picture, and its copy where it has one: the lines of the table."""
    drawing = render(guide, sighting.species, sighting.index)
    stem = f"{guide.find(sighting.species).name}/{sighting.index:04d}"
    data = _encoded(Image.fromarray(drawing.pixels), "JPEG", quality=95, subsampling=0)
    _write_picture(folder, stem, data, drawing)
    row = row_of(guide, sighting, f"images/{stem}.jpg", f"masks/{stem}.png", drawing)
    copy = None if sighting.species >= len(guide.species) else copy_of(guide, sighting)
    if copy is None:
        return [row]
    again = changed(drawing, copy)
    if copy.change == "re-encoded":
        data = _encoded(Image.fromarray(again.pixels), "JPEG", quality=copy.quality)
    elif copy.change != "exact":
        data = _encoded(Image.fromarray(again.pixels), "JPEG", quality=95, subsampling=0)
    _write_picture(folder, f"{stem} {copy.change}", data, again)
    path, mask = f"images/{stem} {copy.change}.jpg", f"masks/{stem} {copy.change}.png"
    # nobody knows where it comes from: it goes to any split, and to no burst
    copied = row_of(guide, Sighting(sighting.species, sighting.index, "test"), path, mask, again)
    told = {"split": copy.split, "group": "", "attribute.copy": copy.change, "attribute.copy of": row["path"]}
    return [row, copied | told]


def _write_picture(folder: Path, stem: str, data: bytes, drawing: Drawing) -> None:
    write_bytes(folder / f"images/{stem}.jpg", data)
    write_bytes(folder / f"masks/{stem}.png", _encoded(Image.fromarray(drawing.numbers), "PNG"))


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
