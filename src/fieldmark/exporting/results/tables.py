"""Answers as CSV or as JSON lines: one line for each picture or box, and one for each picture that was skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fieldmark.answering.answers import Look
from fieldmark.core.storage import as_json, csv_line
from fieldmark.core.wording import written
from fieldmark.evaluation.verdict import Verdict
from fieldmark.exporting.results.answered import Answered, Event, Row

__all__ = ["csv_lines", "flat", "json_lines"]

_BOX = ("box.x", "box.y", "box.width", "box.height")


def flat(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the cells of a table."""
    values = verdict.as_dict()
    values["path"] = written(values["path"])
    values["candidates"] = "; ".join(f"{c.label} {c.probability:.4f}" for c in verdict.candidates)
    if "possible" in values:
        values["possible"] = verdict.listed
    for name, one in values.pop("attributes", {}).items():
        values |= {f"attribute.{name}": one["value"], f"attribute.{name}.probability": one["probability"]}
    return values


def json_lines(answered: Answered, *, probabilities: bool = False) -> Iterator[str]:
    """An object for each answer, as `fieldmark predict --format json` prints it; with boxes, it also has `detection`.

    A picture in which nothing was found has an empty `detections`, and one that was skipped the reason, in `skipped`.
    """
    for values, look, verdict in _told(answered):
        if verdict:
            values |= verdict.as_dict() | {"path": written(verdict.path)}
        if look and look.detection:
            category, confidence, box = look.detection
            values["detection"] = {"category": category, "confidence": confidence, "box": list(box)}
        if look and look.seen and probabilities:
            values["probabilities"] = dict(zip(answered.speaker.bundle.classes, _numbers(answered, look), strict=True))
        yield as_json(values) + "\n"


def csv_lines(answered: Answered, *, probabilities: bool = False) -> Iterator[str]:
    """A table with the same columns for every picture; with `probabilities`, one more for each class."""
    columns = _columns(answered, probabilities=probabilities)
    classes = [f"probability.{name}" for name in answered.speaker.bundle.classes] if probabilities else []
    yield csv_line(columns)
    for values, look, verdict in _told(answered):
        cells = values | (flat(verdict) if verdict else {})
        if look and look.detection:
            category, confidence, box = look.detection
            cells |= {"detection": category, "detection.confidence": confidence, **dict(zip(_BOX, box, strict=True))}
        if look and look.seen and classes:
            cells |= dict(zip(classes, _numbers(answered, look), strict=True))
        yield csv_line("" if (cell := cells.get(column)) is None else cell for column in columns)


def _told(answered: Answered) -> Iterator[tuple[dict[str, Any], Look | None, Verdict | None]]:
    """What stands on each line beside the verdict, what it is about, and the verdict."""
    for one in answered.told():
        if isinstance(one, Event):
            if one.verdict:
                yield {"path": written(one.name)}, None, one.verdict
            continue
        yield from _of_row(one)


def _of_row(row: Row) -> Iterator[tuple[dict[str, Any], Look | None, Verdict | None]]:
    path = written(row.answer.path)
    if row.answer.skipped:
        yield {"path": path, "skipped": written(row.answer.skipped)}, None, None
    elif not row.looks:
        yield {"path": path, "detections": []}, None, None
    else:
        for look, verdict in row.looks:
            yield {"path": path}, look, verdict


def _columns(answered: Answered, *, probabilities: bool) -> list[str]:
    speaker = answered.speaker
    columns = ["path", "label", "probability", "candidates", "promised"]
    if speaker.thresholds:
        columns += ["name", "level", "certainty", "familiar", "possible", "reason"]
    if answered.has_events:
        columns.append("frames")
    if speaker.bundle.photographs:
        columns.append("photographs")
    for name in speaker.bundle.attributes:
        columns += [f"attribute.{name}", f"attribute.{name}.probability"]
    if speaker.among is not None:
        columns.append("outside")
    if answered.kept.header.boxes:
        columns += ["detection", "detection.confidence", *_BOX]
    if probabilities:
        columns += [f"probability.{name}" for name in speaker.bundle.classes]
    return [*columns, "skipped"]


def _numbers(answered: Answered, look: Look) -> list[float]:
    """The probability of each class, of those of a checklist too."""
    assert look.seen is not None
    (found,) = np.exp(answered.speaker.bundle.log_probabilities(look.seen.logits[None]))
    return [round(float(one), 6) for one in found]
