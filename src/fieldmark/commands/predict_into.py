"""Predict into a file: verdicts on any number of photographs, kept as they come, and continued after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, final

from fieldmark.answering.answers import answers, num_looks
from fieldmark.answering.asking import (
    Answers,
    Pictures,
    Shard,
    answer,
    detected_in,
    listed,
    record_beside,
    records_in,
    root_of,
    warn_of_gaps,
)
from fieldmark.answering.cluster import Cluster
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.record import Header, Kept, open_record, read_answers, remembering
from fieldmark.answering.things import Tell, Things
from fieldmark.core.listener import Done, Listener
from fieldmark.core.machine import AUTO, EngineName
from fieldmark.core.storage import sha256_of
from fieldmark.data.readers.columns import Columns
from fieldmark.exporting.fastest import fastest
from fieldmark.exporting.results.wanted import Wanted
from fieldmark.exporting.results.writing import form_of
from fieldmark.runs.bundle import Bundle

__all__ = ["Predicted", "predict_into"]

_CONFIDENCE = 0.2


@final
@dataclass(frozen=True)
class Predicted:
    """What there is now."""

    record: Path | None
    """The record of answers; None if records were given."""
    finished: bool
    """Whether all pictures have answers, and not a request to stop came before."""
    num_pictures: int
    """The pictures that were answered or skipped."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Why there is no answer, by the paths of the pictures."""


def predict_into(
    run: Path | str | Predictor,
    things: Things,
    out: Path | str,
    *,
    form: str | None = None,
    resume: bool = False,
    shard: str | None = None,
    boxes: Path | str | None = None,
    confidence: float = _CONFIDENCE,
    columns: Columns | None = None,
    among: Sequence[str] | None = None,
    candidates: int = 5,
    accuracy: float | None = None,
    coverage: float | None = None,
    bursts: bool = False,
    gap: float | None = None,
    probabilities: bool = False,
    survey: Path | str | None = None,
    sort_into: Path | str | None = None,
    copies: bool = False,
    tell: Tell | None = None,
    device: str = AUTO,
    engine: EngineName | Literal["ray"] = "auto",
    listener: Listener | None = None,
) -> Predicted:
    """Answer for any number of photographs and write a file of the answers.

    While it runs, answers are added to a record beside `out`, season.answers.jsonl for season.csv. It holds what the
    network said, so `out` can be written again in another form, or with another accuracy, without computing anything:
    give the record in place of photographs. Several records become one file. With `resume`, pictures that have an
    answer in the record are passed over; the model and what decides its answers must be the same.

    `form` is that of `out` if its name does not say it: "csv", "json" (lines), "page", "megadetector", "speciesnet",
    "camtrap-dp" or "darwin-core". `shard` "3/8" answers for the third of eight shards, and writes the record only.
    `boxes` is a file of MegaDetector or COCO Camera Traps: each animal of which the detector is at least so confident
    is cut out and classified. `gap` groups photographs of a folder that follow each other within so many seconds, and
    `bursts` those of a whole folder. `survey` is a TOML file with what Camtrap DP and Darwin Core say of deployments
    and of the project. `sort_into` is a folder that gets links to the photographs, or `copies`, in a folder for each
    verdict. With the `engine` "ray", a Ray cluster answers: the one that RAY_ADDRESS names, or that this machine is in;
    all its machines need the run and the photographs under the same paths. Other options are those of
    `fieldmark.predict`. `tell` hears of files in folders that look like pictures and are none.

    Raises RunError and DataError; StorageError if the disk is full, after which `resume` goes on; FieldmarkError for
    options that make no sense together.
    """
    listener, out = listener or Listener(), Path(out)
    this_shard = Shard.parse(shard) if shard else None
    kind = None if this_shard else form_of(out, form)
    wanted = Wanted(
        among, candidates, accuracy, coverage, bursts, gap, probabilities, _path(survey), _path(sort_into), copies
    )
    wanted.check(kind)
    given = {"--shard": shard, "--boxes": boxes, "--resume": resume, "--columns": columns}
    if records := records_in(things, given | {"--confidence": confidence != _CONFIDENCE}):
        assert kind is not None
        bundle = run.bundle if isinstance(run, Predictor) else Bundle.load(run)
        kept = read_answers(records, bundle)
        wanted.check_places(bundle, kept.header, out, kind, kept.wrote)
        warn_of_gaps(kept, listener)
        with remembering(kept) as record:
            wanted.write(bundle, kept, out, kind, record, listener)
        return _finished(None, kept, listener)
    bundle = run.bundle if isinstance(run, Predictor) else Bundle.load(run)
    cluster = Cluster(bundle, device, listener) if engine == "ray" else None
    wanted.speaker(bundle)  # a promise that cannot be kept is refused now, not in the end
    root = root_of(things)
    found = detected_in(Path(boxes), root) if boxes else {}
    paths = list(found) if boxes else listed(things, tell or listener.warn, columns)
    header = Header(
        bundle.state,
        str(this_shard) if this_shard else None,
        sha256_of(Path(boxes)) if boxes else None,
        float(confidence) if boxes else None,
        None if root is None else str(root),
    )
    with open_record(record_beside(out, this_shard), header, resume=resume) as record:
        if kind:
            wanted.check_places(bundle, record.header, out, kind, record.wrote)
        mine = [path for path in paths if this_shard is None or this_shard.has(path)]
        asked = Pictures(mine, found, record.answered)
        by: Answers
        if cluster is not None:
            by = cluster.answers
        elif isinstance(run, Predictor):
            by = partial(answers, run)
        else:
            assert engine != "ray"
            looks = [one.thing for one in asked for _ in range(num_looks(one, confidence))]
            by = partial(answers, fastest(bundle, looks, device=device, engine=engine, listener=listener))
        if not answer(by, asked, confidence, record, listener):
            return Predicted(record.path, False, len(record.answered))
        record.finish()
        kept = read_answers([record.path], bundle)
        if kind:
            wanted.write(bundle, kept, out, kind, record, listener)
        return _finished(record.path, kept, listener)


def _path(given: Path | str | None) -> Path | None:
    return Path(given) if given else None


def _finished(record: Path | None, kept: Kept, listener: Listener) -> Predicted:
    listener.hear(Done("predict_into"))
    return Predicted(record, True, len(kept), kept.skipped)
