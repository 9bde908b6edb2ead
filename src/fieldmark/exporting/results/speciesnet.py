"""Predictions in SpeciesNet's format 20261015, which Wildlife Insights and MegaDetector's tools read.

Names are written as it writes them: seven texts between semicolons, of which the first is an identifier (empty for our
classes) and the last the name in common use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fieldmark.answering.answers import Look
from fieldmark.core.storage import as_json
from fieldmark.core.wording import written
from fieldmark.data.detections import ANIMAL, PERSON, VEHICLE
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.verdict import Verdict
from fieldmark.exporting.results.answered import Answered, Row

__all__ = ["speciesnet_json"]

_LABELS = {ANIMAL: ("1", "animal"), PERSON: ("2", "human"), VEHICLE: ("3", "vehicle")}
_WHOLE = ("0", "whole_image_classification")
_RANKS = "class", "order", "family", "genus"
# the identifiers are SpeciesNet's own
_ANIMAL: Final = "1f689929-883d-4dae-958c-3d57ab5b6c16;;;;;;animal"
_UNKNOWN: Final = f"f2efdae9-efb8-48fb-8a91-eccf79ab4ffb{6 * ';no cv result'}"


def speciesnet_json(answered: Answered) -> Iterator[str]:
    """The file, piece by piece."""
    yield as_json({"info": {"format_version": "20261015"}})[:-1] + ', "predictions": ['
    taxonomy = answered.speaker.bundle.taxonomy
    for number, row in enumerate(answered.rows()):
        told = {"filepath": written(row.answer.path), **_found(row, taxonomy), "model_version": answered.classifier}
        yield ("" if number == 0 else ",") + "\n " + as_json(told)
    yield "\n]}\n"


def _found(row: Row, taxonomy: Taxonomy) -> dict[str, Any]:
    if row.answer.skipped:
        return {"failures": ["CLASSIFIER"]}
    # only what it has a number for; the surest first
    looks = [(look, verdict) for look, verdict in row.looks if look.detection is None or look.detection[0] in _LABELS]
    return {"detections": [_detection(look, verdict, taxonomy) for look, verdict in looks]}


def _detection(look: Look, verdict: Verdict | None, taxonomy: Taxonomy) -> dict[str, Any]:
    what, confidence, box = look.detection or (None, 1.0, (0.0, 0.0, 1.0, 1.0))
    category, label = _WHOLE if what is None else _LABELS[what]
    found: dict[str, Any] = {
        "category": category,
        "label": label,
        "conf": float(confidence),
        "bbox": [round(one, 6) for one in box],
    }
    if verdict:
        found["raw_classifications"] = {
            "classes": [_text(taxonomy, one.label, taxonomy.levels[0].name) for one in verdict.candidates],
            "scores": [round(one.probability, 6) for one in verdict.candidates],
        }
        found["processed_classification"] = _processed(look, verdict, taxonomy)
    return found


def _processed(look: Look, verdict: Verdict, taxonomy: Taxonomy) -> dict[str, Any]:
    """What is vouched for. Where nothing is, an animal in a box is an animal, and a picture is unknown."""
    if verdict.name is None:
        if look.detection:
            return {"class": _ANIMAL, "score": float(look.detection.confidence), "source": "detector"}
        return {"class": _UNKNOWN, "score": round(verdict.sureness or 0.0, 6), "source": "unknown"}
    level = verdict.level or taxonomy.levels[0].name
    rolled = "" if level == taxonomy.levels[0].name else f"+rollup_to_{level}"
    return {
        "class": _text(taxonomy, verdict.name, level),
        "score": round(verdict.certainty or verdict.probability, 6),
        "source": f"classifier{rolled}",
    }


def _text(taxonomy: Taxonomy, name: str, level: str) -> str:
    """A name of a level as seven texts. The species is the second word of a name that begins with its genus."""
    known = taxonomy.lineage(level, name)
    genus, epithet = known.get("genus", ""), ""
    if level == taxonomy.levels[0].name and genus and name.startswith(f"{genus} "):
        epithet = name.removeprefix(f"{genus} ")
    texts = ["", *(known.get(rank, "") for rank in _RANKS), epithet, name]
    return ";".join(text.replace(";", ",") for text in texts).lower()
