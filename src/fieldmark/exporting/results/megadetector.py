"""Results in the format of MegaDetector 1.6, which Timelapse, AddaxAI and SpeciesNet read.

Detections stay as they were given, also those in videos, and those that were classified have `classifications`.
Pictures that were looked at as a whole have one detection, the whole picture, of the category "unknown": nobody has
searched them.
https://lila.science/megadetector-output-format
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from fieldmark.answering.answers import Answer, Look
from fieldmark.core.storage import as_json
from fieldmark.core.wording import written
from fieldmark.data.detections import ANIMAL, PERSON, VEHICLE
from fieldmark.evaluation.verdict import Verdict
from fieldmark.exporting.results.answered import Answered, Row

__all__ = ["megadetector_json", "named_scores", "relative"]

_CATEGORIES = {ANIMAL: "1", PERSON: "2", VEHICLE: "3"}
_UNKNOWN = "unknown"


def megadetector_json(answered: Answered) -> Iterator[str]:
    """The file, piece by piece."""
    categories = _CATEGORIES | {name: str(number) for number, name in enumerate(_others(answered), 4)}
    ids = _ids(answered)
    yield _opening(answered, categories, ids)
    for number, row in enumerate(answered.rows()):
        yield ("" if number == 0 else ",") + "\n " + as_json(_image(answered, row, categories, ids))
    yield "\n]}\n"


def relative(answered: Answered, path: str) -> str:
    """A path from the folder that was asked about, with forward slashes; others stay as they are."""
    root = answered.kept.header.root
    path = written(path)
    below = os.path.relpath(path, root) if root and os.path.isabs(path) == os.path.isabs(root) else path
    return (path if below.split(os.sep)[0] == os.pardir else below).replace(os.sep, "/")


def named_scores(verdict: Verdict) -> list[tuple[str, float]]:
    """Names with their probabilities, the highest first: the name that is vouched for, and the likeliest classes.

    There are none for a picture unlike all that is known, whose probabilities mean nothing.
    """
    if verdict.familiar is False:
        return []
    scores = {one.label: one.probability for one in verdict.candidates}
    if verdict.name is not None and verdict.name not in scores:
        scores[verdict.name] = verdict.certainty or 0.0
    return sorted(scores.items(), key=lambda pair: -pair[1])


def _others(answered: Answered) -> list[str]:
    """The categories that are neither animal nor person nor vehicle."""
    if not answered.kept.header.boxes:
        return [_UNKNOWN]
    found = {name for answer in answered.kept for name in _found_in(answer)}
    return [_UNKNOWN, *sorted(written(name) for name in found - {*_CATEGORIES, _UNKNOWN})]


def _found_in(answer: Answer) -> Iterator[str]:
    """The categories of all detections in a picture or a video."""
    yield from (look.detection.category for look in answer.looks if look.detection)
    yield from (one["category"] for one in (answer.video or {}).get("detections", ()))


def _ids(answered: Answered) -> dict[str, str]:
    """Of the classes and of the names above them."""
    taxonomy = answered.speaker.bundle.taxonomy
    names = dict.fromkeys([*taxonomy.classes, *(name for level in taxonomy.levels[1:] for name in level.names)])
    return {name: str(number) for number, name in enumerate(names)}


def _opening(answered: Answered, categories: Mapping[str, str], ids: Mapping[str, str]) -> str:
    taxonomy = answered.speaker.bundle.taxonomy
    told: dict[str, Any] = {
        "info": {
            "format_version": "1.6",
            "classifier": answered.classifier,
            "classification_completion_time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        },
        "detection_categories": {number: name for name, number in categories.items()},
        "classification_categories": {number: name for name, number in ids.items()},
    }
    if taxonomy:
        coarsest_first = zip(*reversed(list(taxonomy.above.values())), taxonomy.classes, strict=True)
        told["classification_category_descriptions"] = {
            ids[names[end]]: ";".join(names[: end + 1]) for names in coarsest_first for end in range(len(names))
        }
    return as_json(told)[:-1] + ', "images": ['


def _image(answered: Answered, row: Row, categories: Mapping[str, str], ids: Mapping[str, str]) -> dict[str, Any]:
    file = relative(answered, row.answer.path)
    if video := row.answer.video:
        found = [{**one, "category": categories[written(one["category"])]} for one in video["detections"]]
        return {**video, "file": file, "detections": found}
    if row.answer.skipped:
        return {"file": file, "failure": written(row.answer.skipped), "detections": None}
    return {"file": file, "detections": [_detection(look, verdict, categories, ids) for look, verdict in row.looks]}


def _detection(
    look: Look, verdict: Verdict | None, categories: Mapping[str, str], ids: Mapping[str, str]
) -> dict[str, Any]:
    category, confidence, box = look.detection or (_UNKNOWN, 1.0, (0.0, 0.0, 1.0, 1.0))
    found: dict[str, Any] = {
        "category": categories[written(category)],
        "conf": float(confidence),
        "bbox": [round(one, 6) for one in box],
    }
    if verdict:
        found["classifications"] = [[ids[name], round(score, 6)] for name, score in named_scores(verdict)]
    return found
