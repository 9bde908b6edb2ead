"""How a comparison is carried out: each recipe is trained with each seed on the same data, kept and ranked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.scoring import score_split
from fieldmark.answering.verdicts import Speaker
from fieldmark.comparison.child import run_child, why_it_ended
from fieldmark.comparison.composition import compose
from fieldmark.comparison.contestants import Contestant, differences
from fieldmark.comparison.leaderboard import Leaderboard, rank
from fieldmark.comparison.result import Result, answered_rows, data_digest
from fieldmark.core.claims import claimed
from fieldmark.core.errors import DataError, FieldmarkError, RecipeError, RunError, TrainingError
from fieldmark.core.listener import Event, Listener, Tick, Warned, relayed_warnings
from fieldmark.core.locks import lock
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import explained, make_folder, sweep, write_bytes, write_json, write_rows
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.readers.table import read_table
from fieldmark.data.sets import read
from fieldmark.data.write import write_catalog
from fieldmark.learning.fitting.prepare import prepare
from fieldmark.model.hub import check_hub
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.opening import catalog_of
from fieldmark.runs.run import Run

__all__ = ["Comparison", "alone", "check_weights", "find_data", "split_of"]

Results: TypeAlias = dict[tuple[str, int], Result]
"""The results by recipe and seed."""


class Entry(NamedTuple):
    """One run of the comparison."""

    who: Contestant
    seed: int

    @property
    def name(self) -> str:
        return f"{self.who.name}-{self.seed}"

    @property
    def key(self) -> tuple[str, int]:
        return self.who.name, self.seed


class Found(NamedTuple):
    """The data, which is the same for all runs."""

    source: Path
    """The data that every training reads."""
    catalog: Catalog
    """The catalogue of that data."""
    units: NDArray[np.int64]
    """(N,) a number for each image; images that must stay together share one."""
    name: str
    pictures: NDArray[np.uint64]
    """(N,) the digest of each picture's file."""


@final
@dataclass(frozen=True)
class Comparison:
    """All runs, and how each one is made."""

    folder: Path
    field: Sequence[Contestant]
    seeds: Sequence[int]
    baseline: str
    split: str
    options: Sequence[str]
    """The command-line options of every training."""
    listener: Listener
    device: str
    found: Found

    def carry_out(self) -> Leaderboard:
        """Do the runs that are not finished: one seed of every recipe, then the next seed."""
        entries = [Entry(one, seed) for seed in self.seeds for one in self.field]
        digest = data_digest(self.found.catalog, self.found.pictures)
        results = self._kept(entries, digest)
        todo = [entry for entry in entries if entry.key not in results]
        self._check(todo)
        failures: dict[str, str] = {}
        board = self._write(results, failures)
        total = sum(map(self._num_lines, entries))
        with self.listener.stoppable() as stop_asked, self.listener.progress("Comparing") as tick:
            for at, entry in enumerate(todo):
                done = total - sum(map(self._num_lines, todo[at:]))
                try:
                    if not self._train(entry, stop_asked, self._looking(entry, tick, done, total)):
                        break
                    result = self._scored(entry, digest)
                    result.save(self._result(entry))
                except FieldmarkError as error:
                    failures[entry.name] = str(error)
                    self.listener.warn(f"{entry.name} failed: {error}")
                else:
                    results[entry.key] = result
                    left = f" ({len(todo) - at - 1} to go)" if at + 1 < len(todo) else ""
                    self.listener.note(f"{entry.name}: {100 * result.accuracy:.1f} % correct{left}")
                board = self._write(results, failures)
        return board

    def _looking(self, entry: Entry, tick: Tick, done: int, total: int) -> Callable[[], None]:
        """A function that reports the overall progress, from the log of the current run."""
        run, most = self._run(entry), self._num_lines(entry)
        return lambda: tick(done + min(len(run.history()), most), total, note=entry.name)

    def _num_lines(self, entry: Entry) -> int:
        labels = self.found.catalog.labels[self.found.catalog.rows("train")]
        return entry.who.num_lines(len(labels), len(np.unique(labels)))

    def _run(self, entry: Entry) -> Run:
        return _run(self.folder, entry)

    def _result(self, entry: Entry) -> Path:
        return _result(self.folder, entry, self.split)

    def _kept(self, entries: Sequence[Entry], digest: str) -> Results:
        """The results that are kept already. Raises RunError if one belongs to another comparison."""
        kept: Results = {}
        num_images, earlier = len(answered_rows(self.found.catalog, self.split)), data_digest(self.found.catalog)
        for entry in entries:
            if (file := self._result(entry)).is_file():
                result = Result.load(file)
                entry.who.check_result(result, file, entry.seed, self.split, digest, earlier)
                assert len(result.correct) == num_images, "the digest says which images were answered"
                kept[entry.key] = result
        if kept:
            self.listener.note(f"{len(kept)} of {counted(len(entries), 'run')} already done")
        return kept

    def _check(self, todo: Sequence[Entry]) -> None:
        """Raise before any work if a recipe cannot be built, or if a run has other data or another recipe."""
        for one in self.field:
            if any(entry.who is one for entry in todo):
                one.check_builds(self.found.catalog)
        digests = {split: self.found.catalog.digest(split) for split in SPLITS}
        for entry in todo:
            run = self._run(entry)
            if not run.exists:
                continue
            changes = Run.open(run.folder).recipe().changes(entry.who.seeded(entry.seed))
            wrong = [f"{key} was {before!r}, not {now!r}" for key, (before, now) in changes.items()]
            if (known := run.data()) and known["digests"] != digests:
                wrong.append("it was started with other images, labels or splits")
            if wrong:
                raise RunError(
                    f"{run.folder} holds a different run: {first_few(wrong)}",
                    "Choose another --out, or remove results/ and runs/ in it to start again.",
                )

    def _train(self, entry: Entry, stop_asked: Callable[[], bool], look: Callable[[], None]) -> bool:
        """Train one run to its end unless it is finished. Returns False if it was stopped; raises TrainingError."""
        run = self._run(entry)
        look()
        if run.is_finished:
            return True
        if stop_asked():
            return False
        command = ["train", str(self.found.source), "--recipe", entry.who.given, *self.options]
        log = make_folder(run.folder.parent) / f"{entry.name}.txt"
        status = run_child(
            [*command, f"--set=seed={entry.seed}", "--out", str(run.folder), "--resume"],
            log=log,
            stop_asked=stop_asked,
            look=look,
        )
        if status and not stop_asked():
            raise TrainingError(why_it_ended(status, log))
        return run.is_finished

    def _scored(self, entry: Entry, digest: str) -> Result:
        """The result of a finished run. A test split that has been scored is not scored again."""
        run = self._run(entry)
        if self.split == "test" and not (run.evaluation("test") / "scores.json").is_file():
            self._score_test(run)
        return Result.of(run, self.found.catalog, self.split, recipe=entry.who.name, digest=digest)

    def _score_test(self, run: Run) -> None:
        listener, bundle = _Warnings(self.listener), Bundle.load(run.folder)
        with relayed_warnings(listener):
            catalog = catalog_of(run, None, None, listener)
        ready = partial(Predictor.of, bundle, device=self.device)
        score_split(run, ready, catalog, "test", speaker=Speaker.of(bundle), own=True, listener=listener)

    def _write(self, results: Results, failures: Mapping[str, str]) -> Leaderboard:
        """Write the leaderboard so far as JSON, CSV and a page."""
        board = rank(
            results,
            recipes=[one.name for one in self.field],
            seeds=self.seeds,
            baseline=self.baseline,
            units=self.found.units[answered_rows(self.found.catalog, self.split)],
            data=self.found.name,
            split=self.split,
            failures=failures,
            notices=[*differences(self.field), *_remarks(results)],
            folder=self.folder,
        )
        if notice := _no_better_than_guessing(board, self.found.catalog):
            board = replace(board, notices=(*board.notices, notice))
        suffix = _suffix(self.split)
        write_json(self.folder / f"leaderboard{suffix}.json", board.as_dict())
        write_rows(self.folder / f"leaderboard{suffix}.csv", *board.sheet())
        write_bytes(self.folder / f"index{suffix}.html", compose(board).encode())
        return board


class _Warnings(Listener):
    """Passes on warnings only: the one progress bar is the comparison's."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def hear(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.listener.hear(event)


def _run(folder: Path, entry: Entry) -> Run:
    return Run(folder / "runs" / entry.name)


def _result(folder: Path, entry: Entry, split: str) -> Path:
    return folder / "results" / f"{entry.name}{_suffix(split)}.json"


def _suffix(split: str) -> str:
    return "-test" if split == "test" else ""


def check_weights(folder: Path, field: Sequence[Contestant], seeds: Sequence[int], split: str) -> None:
    """Raise WeightsError, before any data is read, if a run that has yet to begin needs weights that cannot be had."""
    for one in field:
        entries = [Entry(one, seed) for seed in seeds]
        if not all(_result(folder, entry, split).is_file() or _run(folder, entry).exists for entry in entries):
            check_hub(one.recipe.backbone)


def split_of(split: Literal["val", "test"], recipe: Recipe) -> str:
    """The split that is scored."""
    if split == "test":
        return "test"
    if recipe.protocol == "refit":
        raise RecipeError(
            "protocol = 'refit' leaves no validation split to compare recipes on",
            "Compare with --set protocol=holdout or crossfit, then confirm the choice with --split test.",
        )
    return "val" if recipe.protocol == "holdout" else "crossfit"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the comparison's folder for as long as this lasts. A training holds its own run, so one that outlives the
    command that started it is still noticed. Raises StorageError for a folder that is neither empty nor ours."""
    with claimed(folder, "a comparison", busy=_taken(folder), known=lambda: _is_known(folder)):
        for run in sorted((folder / "runs").glob("*/.lock")):
            with explained(folder), lock(run, wait=False) as free:
                if not free:
                    raise _taken(folder)
        for place in (folder, folder / "data", folder / "results"):
            sweep(place)
        yield


def _is_known(folder: Path) -> bool:
    """Whether a comparison is here, as its files say: its results may have been copied without the mark."""
    for file in (folder / "results").glob("*.json"):
        with suppress(RunError):
            Result.load(file)
            return True
    return any(Run(place).is_known for place in (folder / "runs").glob("*"))


def _taken(folder: Path) -> RunError:
    return RunError(
        f"Another comparison, or a training that it started, is running in {folder}",
        "Wait until it has finished, or choose another --out.",
    )


def find_data(data: Path | Catalog, field: Sequence[Contestant], split: str, folder: Path, listener: Listener) -> Found:
    """Read and split the data once, as the protocol asks: otherwise different seeds would be scored on other images."""
    with relayed_warnings(listener):
        read_as = data if isinstance(data, Catalog) else read(data, tell=listener.note)
    prepared = prepare(read_as, field[0].recipe, listener)
    if not len(answered_rows(prepared.catalog, split)):
        raise DataError(
            f"{read_as.name} has no images in its {split} split to compare recipes on",
            "Give each class at least three independent images"
            + (", or compare with --set protocol=crossfit." if split == "val" else "."),
        )
    for one in field:
        one.check_data(prepared, listener)
    pictures = prepared.pixels.fingerprints.digests
    catalog, said = prepared.catalog, dict(zip(read_as.paths, read_as.splits.tolist(), strict=True))
    if not isinstance(data, Catalog) and [said[path] for path in catalog.paths] == catalog.splits.tolist():
        return Found(data, catalog, prepared.units, read_as.name, pictures)
    kept = sorted((folder / "data").glob("*.csv"))  # it may have been written under another name
    file = kept[0] if kept else folder / "data" / f"{read_as.name.replace('/', ' ')}.csv"
    if not kept:
        write_catalog(file, catalog)
    written = read_table(file)
    if data_digest(written) != data_digest(catalog):
        raise DataError(
            f"{folder} is a comparison on other data: images, labels or splits differ from {file}",
            "Restore the data, or choose another --out.",
        )
    return Found(file, written, prepared.units, read_as.name, pictures)


def _no_better_than_guessing(board: Leaderboard, catalog: Catalog) -> str:
    """A notice that names the recipes that may have learnt nothing; "" if there are none."""
    labels = catalog.labels[answered_rows(catalog, board.split)]
    share = float(np.bincount(labels).max() / len(labels))
    names = [one.recipe for one in board.standings if one.accuracy is not None and one.accuracy.low <= share]
    if not names:
        return ""
    return (
        f"Not clearly better than always naming the most common class ({100 * share:.1f} %): {', '.join(names)}. "
        "More epochs, larger images or pretrained weights may help."
    )


def _remarks(results: Results) -> list[str]:
    """Remarks on runs from different machines, and on a test split that was scored before."""
    remarks = []
    machines = {", ".join(f"{key} {value}" for key, value in result.machine.items()) for result in results.values()}
    if len(machines) > 1:
        remarks.append(
            f"Times are from {len(machines)} machines and cannot be compared: {'; '.join(sorted(machines))}."
        )
    if looks := max((result.looks or 0 for result in results.values()), default=0):
        remarks.append(f"The test split has been scored {counted(looks, 'time')} on one machine, counting all models.")
    return remarks
