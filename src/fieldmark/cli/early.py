"""Common mistakes are found before torch is imported, which takes seconds. Whatever passes is checked again in full."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fieldmark.core.errors import DataError, FieldmarkError

__all__ = ["check_begun_run", "check_data", "check_free", "check_recipes", "check_run", "following", "is_run"]


def check_recipes(
    names: Sequence[str],
    *,
    backbone: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    named: bool = False,
) -> None:
    """Raise FieldmarkError for a recipe, a key, a backbone or a weights file that does not exist.

    The error begins with the name of the recipe where several are `named`.
    """
    from fieldmark.core.recipe import load_recipe
    from fieldmark.model.choosing import check_backbone

    for name in names:
        try:
            check_backbone(load_recipe(name).changed(backbone, weights, overrides).backbone)
        except FieldmarkError as error:
            prefix = f"{Path(name).stem if name.endswith('.toml') else name}: " if named else ""
            raise type(error)(f"{prefix}{error.problem}", error.hint) from None


def check_data(data: Path | None, root: Path | None) -> None:
    """Raise DataError for a run in place of data, for folders without files, and if there is neither such a path nor a
    data set of that name."""
    if data is not None and is_run(data):
        raise DataError(f"{data} is a run, and data is what it was trained on", "Name the photographs or their table.")
    if data is None or os.path.exists(data.expanduser()):
        if data is not None and _is_bare(data.expanduser()):
            from fieldmark.data.sets import read

            read(data)
        return
    from fieldmark.data.sets import find
    from fieldmark.data.sets.known import named

    if named(data) is None:
        find(data, root)


def _is_bare(path: Path) -> bool:
    """Whether there is nothing but folders in a folder and below; it takes a moment where there is anything else. A
    link is something: whoever reads the data follows it."""
    return os.path.isdir(path) and not any(
        files or any(os.path.islink(os.path.join(folder, name)) for name in folders)
        for folder, folders, files in os.walk(path)
    )


def check_free(out: Path) -> None:
    """Raise RunError or StorageError if there is anything in the folder of a new run."""
    if os.path.exists(out):
        from fieldmark.runs.run import Run

        run = Run(out)
        with run.held():
            run.check_free()


def check_begun_run(run: Path) -> None:
    """Raise RunError if there is no run, finished or not, at a path or around a bundle."""
    from fieldmark.runs.opening import opened_run
    from fieldmark.runs.run import Run

    Run.open(opened_run(run).folder)


def check_run(run: Path) -> None:
    """Raise RunError if there is neither a bundle nor a run that has one."""
    if not any(os.path.isfile(folder / "model.json") for folder in (run / "bundle", run)):
        from fieldmark.runs.bundle import Bundle

        Bundle.load(run)


def is_run(path: Path) -> bool:
    """Whether a path is a run and not data."""
    return all(os.path.isfile(path / name) for name in ("environment.json", "recipe.toml"))


def following(run: Path, *, resume: bool) -> Path:
    """The folder beside a run for the one that follows it: birds-2 for birds, or birds-3 if there is a birds-2 already,
    which is the one to `resume`. A number from 1000 on is taken for a year: birds-2026-2 follows birds-2026."""
    name, _, text = run.resolve().name.rpartition("-")
    counts = bool(name) and text.isdecimal() and len(text) < 4
    stem, number = (name, int(text) + 1) if counts else (run.resolve().name, 2)
    while (place := run.parent / f"{stem}-{number}").exists():
        number += 1
    last = run.parent / f"{stem}-{number - 1}"
    return last if resume and last.resolve() != run.resolve() and last.exists() else place
