"""Predict: answers for photographs."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from fieldmark.bundle import Bundle, short_side, stacked
from fieldmark.data.decode import decode
from fieldmark.data.folder import is_image_name
from fieldmark.errors import DataError, ImageError
from fieldmark.evaluation.verdict import Verdict
from fieldmark.model.inference import Outputs, infer, joined

__all__ = ["Skipped", "expand", "predict", "read_checklist"]

BATCH = 32


@dataclass(frozen=True)
class Skipped:
    """A file without an answer."""

    path: str
    reason: str


def expand(patterns: Iterable[str]) -> Iterator[str]:
    """Files, folders (their images, nested too) and globs → files. Names of absent files are passed on.

    Raises DataError for a folder or a glob without images.
    """
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            found = sorted(str(file) for file in path.rglob("*") if file.is_file() and is_image_name(file.name))
            problem = f"There are no images in the folder {pattern}"
        elif not path.exists() and glob.has_magic(pattern):
            found = sorted(name for name in glob.iglob(pattern, recursive=True) if Path(name).is_file())
            problem = f"No file fits {pattern!r}"
        else:
            yield pattern
            continue
        if not found:
            raise DataError(problem, "Give image files, folders of them, or globs.")
        yield from found


def read_checklist(path: Path) -> list[str]:
    """Class names, one per line; blank lines and lines that begin with # are left out."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the checklist {path}: {error}", "Expected one name a line.") from None
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise DataError(f"The checklist {path} is empty", "Expected class names, one a line.")
    return names


def predict(
    run: Path | str | Bundle,
    paths: Iterable[str],
    *,
    among: Sequence[str] | None = None,
    candidates: int = 5,
    accuracy: float | None = None,
    coverage: float | None = None,
    bursts: bool = False,
    tick: Callable[[int], None] = lambda done: None,
) -> Iterator[Verdict | Skipped]:
    """One verdict for each image, in order and as soon as its batch is answered; a bad file is `Skipped`.

    With `bursts`, one more for each folder follows at the end. See `Bundle.predict`.
    """
    bundle = run if isinstance(run, Bundle) else Bundle.load(run)
    rows = None if among is None else bundle.class_rows(among)
    rules = bundle.rules(accuracy, coverage)
    answered: list[str] = []
    kept: list[Outputs] = []
    done = 0
    files = expand(paths)
    while batch := list(itertools.islice(files, BATCH)):
        views: list[Tensor] = []
        results: list[Skipped | None] = []
        for path in batch:
            try:
                views.append(bundle.view(decode(Path(path), short_side=short_side(bundle.images)).pixels))
                results.append(None)
            except ImageError as error:
                results.append(Skipped(path, str(error)))
        outputs = infer(bundle.method, stacked(views, BATCH))
        readable = [path for path, skipped in zip(batch, results, strict=True) if not skipped]
        verdicts = iter(bundle.verdicts(readable, outputs, rules, among=rows, most=candidates))
        for skipped in results:
            yield skipped or (replace(next(verdicts), frames=1) if bursts else next(verdicts))
        if bursts and readable:
            answered += readable
            kept.append(outputs)
        done += len(batch)
        tick(done)
    if kept:
        yield from bundle.pooled_verdicts(answered, joined(kept), rules, among=rows, most=candidates)
