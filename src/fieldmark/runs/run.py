"""A run on disk.

runs/birds/
  .fieldmark .lock   that the folder is Fieldmark's own, and whether it is in use; see `fieldmark.core.claims`
  environment.json   versions, device, threads, workers, precision, command line; what a resume must not change
  recipe.toml        every default written out: running it again repeats the run; with it a run exists
  data.json          where the data is, class order, counts, a hash of each split and one of its pictures
  splits.csv         path, split, label, picture (by which the file is known anywhere), copy_of (a near-duplicate)
  decisions.csv      what a person has decided about labels, if anything; it is carried out in memory
  budget.json        what the training may take and has taken, what it tried and why it chose what it did, if it has one
  unlabelled.json    where the photographs are that may be labelled next, if anybody asked
  log.jsonl          one line per epoch, append-only; of an epoch that was done twice the last line counts
  times.json         seconds spent on reading, training and evaluating, over all sittings
  memory.json        the most bytes that training took: of the process, and of the GPU
  checkpoints/       what a resume needs
  bundle/            model.safetensors, model.json, index.json, calibration.safetensors, held.safetensors, and
                     enrolled.json with its arrays: what one ships
  evaluation/<split>/ scores.json, predictions.csv
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, cast, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.claims import claimed, contents
from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.listener import EpochEnded, Event, Listener
from fieldmark.core.machine import Machine, peak_memory
from fieldmark.core.reading import other_version, parse_json, parse_toml, read_json, read_regular, reason
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import append_line, make_folder, read_rows, sweep, write_bytes, write_json, write_rows
from fieldmark.core.version import version
from fieldmark.core.wording import brief, first_few
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.decisions import COLUMNS, Decision, Decisions, write_decisions
from fieldmark.data.remote import real_place
from fieldmark.runs.facts import Environment, Facts, LogLine, Memory, Seconds, Source, Unlabelled

__all__ = ["Run", "RunLog", "picture_name"]

_FORMAT = 1
_BEGINNING = {
    "recipe.toml",
    "environment.json",
    "data.json",
    "splits.csv",
    "decisions.csv",
    "unlabelled.json",
    "budget.json",
    "times.json",
}
"""What is written before anything is learnt."""
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")


class Run:
    """The folder of one training."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {'finished' if self.is_finished else 'not finished'})"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def exists(self) -> bool:
        return all(os.path.isfile(self.folder / name) for name in ("environment.json", "recipe.toml"))

    @property
    def is_finished(self) -> bool:
        return os.path.isfile(self.bundle / "model.json")

    def checkpoint(self, name: str = "last") -> Path:
        """Where a resume looks."""
        return self.folder / "checkpoints" / f"{name}.safetensors"

    def evaluation(self, split: str) -> Path:
        """Where the scores of a split are."""
        return self.folder / "evaluation" / split

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while a run is trained in it: it is absent, empty or ours, and no other process writes there.

        Raises StorageError for any other folder, which is left as it is, and RunError if a training is running in it.
        """
        busy = RunError(
            f"Another training is running in {self.folder}", "Wait until it has finished, or choose another --out."
        )
        with claimed(self.folder, "a run", busy=busy, known=lambda: self.is_known):
            # once there is a bundle, an evaluation may be writing into its own folder at this moment
            scored = () if self.is_finished else self.evaluation("").glob("*")
            for place in (self.folder, self.bundle, self.folder / "checkpoints", *scored):
                sweep(place)
            yield

    @property
    def is_known(self) -> bool:
        """Whether a run is here, as its files say: it may have been copied without its mark."""
        try:
            return Run.open(self.folder).exists
        except RunError:
            return False

    def check_free(self) -> None:
        """Raise RunError if there is anything in the folder."""
        if self.exists:
            raise RunError(
                f"{self.folder} is not empty", "Add --resume to continue the run in it, or choose another --out."
            )
        # a start that was killed may have left the first of its two files; nothing of another name or content is ours
        left = {"environment.json"} if _environment(self.folder) else set()
        if others := [path.name for path in contents(self.folder) if path.name not in left]:
            raise RunError(
                f"{self.folder} is not empty, and holds no run: it holds {first_few(others)}",
                "Choose a new folder, or an empty one, with --out.",
            )

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, machine: Machine) -> Run:
        """Begin a run in an empty or absent folder. Raises RunError if there is anything else in it."""
        run = cls(make_folder(folder))
        run.check_free()
        write_json(
            folder / "environment.json",
            {
                "format": _FORMAT,
                "fieldmark": version(),
                "python": platform.python_version(),
                "packages": {name: metadata.version(name) for name in _PACKAGES},
                "platform": platform.platform(),
                "machine": vars(machine),
                "command": sys.argv,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        write_bytes(folder / "recipe.toml", recipe.to_toml().encode())
        return run

    def discard(self) -> None:
        """Remove a run that has not come further than its beginning; one that has is left as it is."""
        inside = [path for top in contents(self.folder) for path in (top, *top.rglob("*"))]
        if {path.relative_to(self.folder).as_posix() for path in inside if not path.is_dir()} <= _BEGINNING:
            with contextlib.suppress(OSError):  # whatever is in the way, the user hears of the first problem
                for path in sorted(inside, reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Open an existing run. Raises RunError if there is none, or if it is of another version."""
        run = cls(folder)
        environment = _environment(run.folder)
        if environment is None:
            raise RunError(
                f"{folder} is not a run folder: it has no readable environment.json",
                "Give the folder that was named with `fieldmark train … --out`.",
            )
        if (found := environment.get("format")) != _FORMAT:
            raise RunError(
                f"{folder} is a run of format {brief(found)}, but this version of Fieldmark reads {_FORMAT}",
                "Use the version that wrote it, or train again.",
            )
        return run

    def recipe(self) -> Recipe:
        """The recipe, every default written out."""
        path = self.folder / "recipe.toml"
        try:
            return Recipe.parse(parse_toml(read_regular(path)), source=str(path))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {reason(error)}", other_version(str(path))) from None

    def environment(self) -> Environment:
        """Versions, the machine and what was decided. Raises RunError if environment.json is absent or damaged."""
        path = self.folder / "environment.json"
        try:
            return read_json(path, Environment)
        except OSError as error:
            raise RunError(f"{path} cannot be read: {reason(error)}") from None

    def machine(self) -> Machine:
        """What was decided about the machine when the run began; keys of other versions are passed over."""
        known: dict[str, Any] = {**self.environment()["machine"]}
        return Machine(**{one.name: known[one.name] for one in fields(Machine) if one.name in known})

    def settle(self, machine: Machine) -> None:
        """Begin with what a trial on this machine found."""
        write_json(self.folder / "environment.json", {**self.environment(), "machine": vars(machine)})

    def move(self, machine: Machine) -> None:
        """Go on with what another machine, or another device of it, decides."""
        known = self.environment()
        moved = {"machine": vars(machine), "moved": [*known.get("moved", []), known["machine"]]}
        write_json(self.folder / "environment.json", {**known, **moved})

    def decided(self, name: str) -> Any:
        """What was measured of the data and decided when the run began; None where it was not."""
        return self.environment().get("decided", {}).get(name)

    @property
    def solver(self) -> str:
        """How the weights were learnt, "gradient" or "logistic"; "auto" before that is settled."""
        return cast(str, self.decided("solver") or self.recipe().train.solver)

    def decide(self, name: str, found: Any) -> None:
        """Keep what was measured, so that a resume need not, and cannot, find otherwise."""
        known = self.environment()
        decided = {**known.get("decided", {}), name: found}
        write_json(self.folder / "environment.json", {**known, "decided": decided})

    def data(self) -> Facts:
        """What is known about the data; {} before it is read. Raises RunError if data.json is damaged."""
        try:
            return read_json(self.folder / "data.json", Facts)
        except FileNotFoundError:
            return cast(Facts, {})

    def write_data(
        self,
        source: Path | str,
        catalog: Catalog,
        pictures: NDArray[np.uint64],
        columns: Mapping[str, str] | None = None,
        further: Sequence[Source] = (),
        copy_of: Sequence[str] = (),
    ) -> None:
        """Remember the data, by which `columns` it was read, what `further` data stands behind it, how it was split,
        the digest (N,) of each picture's file, and the path of what it is a `copy_of` (N), if of anything.

        Raises RunError if it is not what the run began with.
        """
        found: Facts = {
            "source": real_place(source),
            "columns": dict(columns or {}),
            "root": str(catalog.root),
            "num_images": len(catalog),
            "name": catalog.name,
            "classes": list(catalog.classes),
            "taxonomy": catalog.taxonomy.as_dict(),
            "counts": {split: len(catalog.rows(split)) for split in SPLITS},
            "digests": {split: catalog.digest(split) for split in SPLITS},
            "pictures": {split: _digest(catalog, split, pictures) for split in SPLITS},
        }
        if further:
            found["further"] = list(further)
        if decisions := self.decisions():
            found["decisions"] = {"number": len(decisions), "digest": decisions.digest}
        if (known := self.data()) and (changes := _changes(known, found)):
            raise RunError(
                f"The data is not what this run began with: {changes}",
                f"Put {known['source']} back as it was, or start a new run with another --out.",
            )
        labels = (catalog.classes[label] for label in catalog.labels.tolist())
        known_as = map(picture_name, pictures[: len(catalog)])
        copies = copy_of or [""] * len(catalog)
        rows = zip(catalog.paths, catalog.splits.tolist(), labels, known_as, copies, strict=True)
        write_rows(self.folder / "splits.csv", ["path", "split", "label", "picture", "copy_of"], rows)
        write_json(self.folder / "data.json", found)  # last: where it is, the splits are known

    def decisions(self) -> Decisions:
        """The decisions by which the data was changed in memory. Raises RunError if they are lost or edited."""
        path, known = self.folder / "decisions.csv", self.data().get("decisions")
        if known is None and not path.is_file():
            return Decisions()
        hint = "Put back the decisions.csv that training wrote, or train again."
        found = Decisions(
            tuple(Decision(*(row[name] for name in COLUMNS)) for row in read_rows(path, COLUMNS, hint=hint))
        )
        if known and known["digest"] != found.digest:
            raise RunError(f"{path} is not what training wrote", hint)
        return found

    def keep_decisions(self, decisions: Decisions) -> None:
        """Remember what is to be done with the data, before it is read."""
        if decisions:
            write_decisions(self.folder / "decisions.csv", decisions)

    def unlabelled(self) -> Unlabelled | None:
        """Where the photographs are that may be labelled next; None if nobody asked."""
        try:
            return read_json(self.folder / "unlabelled.json", Unlabelled)
        except FileNotFoundError:
            return None

    def keep_unlabelled(self, found: Unlabelled | None) -> None:
        """Remember where they are."""
        if found:
            write_json(self.folder / "unlabelled.json", found)

    def splits(self) -> dict[str, str]:
        """The split of each path, as the run was trained."""
        return {row["path"]: row["split"] for row in self.images()}

    def images(self) -> list[dict[str, str]]:
        """path, split, label, picture and copy_of of every image, as the run was trained; [] before the data was read.

        Runs of earlier versions may lack the last three. Raises RunError if the splits are lost, damaged or edited:
        training images would be taken for unseen ones.
        """
        if not (known := self.data()):
            return []
        path, hint = self.folder / "splits.csv", "Put back the splits.csv that training wrote, or train again."
        rows = read_rows(path, ["path", "split"], hint=hint)
        if not rows or "label" in rows[0]:
            found = _digests(rows, known)
            if changed := [split for split in SPLITS if found[split] != known["digests"][split]]:
                raise RunError(f"{path} is not what training wrote: {', '.join(changed)} changed", hint)
        return rows

    def log(self, line: dict[str, Any]) -> None:
        """Add a line to the log."""
        append_line(self.folder / "log.jsonl", line)

    def history(self) -> list[LogLine]:
        """The log: one line per fit and epoch. Lines that are none are passed over."""
        try:
            texts = read_regular(self.folder / "log.jsonl").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise RunError(f"{self.folder / 'log.jsonl'} cannot be read: {reason(error)}") from None
        lines: dict[tuple[str, int], LogLine] = {}
        for text in texts:
            try:
                line = parse_json(text, LogLine)
            except ValueError:  # a machine that died while writing leaves a torn last line
                continue
            lines[line["fit"], line["epoch"]] = line
        return [lines[key] for key in sorted(lines)]

    def times(self) -> dict[str, float]:
        """The seconds of each stage, over all sittings except those that were killed."""
        try:
            return dict(read_json(self.folder / "times.json", Seconds))
        except (OSError, RunError):
            return {}

    def step_seconds(self) -> float:
        """The seconds of all training steps, those of sittings that were killed too."""
        return sum({line["fit"]: line["seconds"] for line in self.history()}.values())  # they add up within a fit

    def memory(self) -> dict[str, int]:
        """The peak memory of training in bytes, of the "process" and, if there is one, the "gpu"."""
        try:
            return dict(read_json(self.folder / "memory.json", Memory))
        except (OSError, RunError):
            return {}

    def keep_memory(self) -> None:
        """Remember what this process has taken so far, or an earlier sitting if that took more."""
        taken, before = peak_memory(), self.memory()
        write_json(
            self.folder / "memory.json", before | {name: max(n, before.get(name, 0)) for name, n in taken.items()}
        )

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add what this takes to the times of the run. It decides nothing, and its own failures are passed over."""
        start = time.monotonic()
        try:
            yield
        finally:
            if self.exists:
                times = self.times()
                times[stage] = round(times.get(stage, 0.0) + time.monotonic() - start, 2)
                with contextlib.suppress(StorageError):  # a time that is not kept is no reason to lose the run
                    write_json(self.folder / "times.json", times)


def picture_name(digest: np.uint64) -> str:
    """What the digest of a picture's file is called."""
    return f"{digest:016x}"


def _environment(folder: Path) -> dict[str, Any] | None:
    """What environment.json says; None where there is none that a run wrote."""
    try:
        found = read_json(folder / "environment.json", dict[str, Any])
    except (OSError, RunError):
        return None
    return found if "format" in found else None


def _digest(catalog: Catalog, split: str, pictures: NDArray[np.uint64]) -> str:
    """A hash of the contents of a split's pictures, each with its path."""
    rows = catalog.rows(split)
    digests = zip(rows.tolist(), pictures[rows], strict=True)
    lines = sorted(f"{catalog.paths[row]}\t{picture_name(digest)}" for row, digest in digests)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _digests(rows: Sequence[Mapping[str, str]], known: Facts) -> dict[str, str]:
    """The digest of each split, as these rows of splits.csv have it."""
    classes = sorted({row["label"] for row in rows})
    index = {name: k for k, name in enumerate(classes)}
    catalog = Catalog(
        known["name"],
        Path(known["root"]),
        tuple(row["path"] for row in rows),
        np.array([index[row["label"]] for row in rows], np.int64),
        tuple(classes),
        np.array([row["split"] for row in rows], np.str_),
        np.full(len(rows), ""),
    )
    return {split: catalog.digest(split) for split in SPLITS}


def _changes(known: Facts, found: Facts) -> str:
    """Which data is not what it was, in words; "" if all is."""
    changed = [split for split in SPLITS if known["digests"][split] != found["digests"][split]]
    if changed or known["classes"] != found["classes"]:
        return f"{', '.join(changed) or 'the class names'} changed"
    exchanged = [split for split, digest in known.get("pictures", {}).items() if digest != found["pictures"].get(split)]
    return f"other pictures have the names of those in {', '.join(exchanged)}" if exchanged else ""


@final
class RunLog(Listener):
    """Writes `log.jsonl` of a run: a line for each epoch."""

    _DIGITS: Final = {"loss": 4, "seconds": 1, "validation_seconds": 1, "val_top1": 4, "val_nll": 4}

    def __init__(self, run: Run) -> None:
        self.run = run

    def hear(self, event: Event) -> None:
        if isinstance(event, EpochEnded):
            found = event.metrics
            kept = {name: round(found[name], digits) for name, digits in self._DIGITS.items() if name in found}
            self.run.log({"fit": event.fit, "epoch": event.epoch, "step": event.step, **kept})
