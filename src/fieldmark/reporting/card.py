"""The model card of a bundle: what it knows, how good it is, what it promises and what it must not be used for.

It says only what was measured, and by which command (Mitchell et al., "Model cards for model reporting", 2019). The
head is the YAML that model hubs read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fieldmark.core.storage import as_json, write_bytes
from fieldmark.evaluation.background import VIEWS
from fieldmark.evaluation.metrics import Score
from fieldmark.model.license import is_noncommercial
from fieldmark.reporting.background import read_background
from fieldmark.reporting.material import Material, Split
from fieldmark.runs.bundle import Bundle

__all__ = ["CARD", "card", "write_card"]

CARD = "README.md"
_NAMED = 30
"""Classes that the card names; with more, model.json has the rest."""
_WEAKEST, _PAIRS = 10, 10
_TOLD = ("data", "protocol", "seed", "finished", "weights", "license")
_SAID = {
    "top1": "right",
    "top5": "among the first five",
    "mean_class_accuracy": "mean of the classes",
    "calibration_error": "calibration error",
    "quadratic_kappa": "quadratic kappa",
}


def write_card(material: Material, bundle: Bundle) -> Path:
    """Write the card into the folder of the bundle; return where it is."""
    assert bundle.folder is not None
    write_bytes(bundle.folder / CARD, card(material, bundle).encode())
    return bundle.folder / CARD


def card(material: Material, bundle: Bundle) -> str:
    """The card in Markdown."""
    network = f"`{bundle.recipe.method.name}` on `{bundle.recipe.backbone.name}`, {bundle.images.size} px"
    paragraphs = [
        _head(bundle),
        f"# {_plain(material.run.folder.resolve().name)}",
        f"Tells {_classes(bundle)} of things that look alike apart: "
        f"{_names(bundle.classes, _NAMED)}. {network}. Made by Fieldmark {bundle.provenance.get('fieldmark', '')}.",
        "    fieldmark predict BUNDLE photographs/",
        *_training(material, bundle),
        *_scores(material, bundle),
        *_promises(bundle),
        *_weak(material.shown),
        *_background(material),
        *_limits(bundle),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _head(bundle: Bundle) -> str:
    license = str(bundle.provenance.get("license", "unknown"))
    values = {
        "license": license if re.fullmatch(r"[a-z0-9.-]+", license) and license not in ("none", "unknown") else "other",
        "library_name": "fieldmark",
        "pipeline_tag": "image-classification",
        "tags": ["fine-grained-image-classification", bundle.recipe.backbone.name],
    }
    return "\n".join(["---", *(f"{key}: {as_json(value)}" for key, value in values.items()), "---"])


def _training(material: Material, bundle: Bundle) -> list[str]:
    told = {key: _plain(str(bundle.provenance.get(key, "unknown"))) for key in _TOLD}
    images = [f"{len(found):,} {split}" for split in ("train", "val", "test") if (found := material.images[split])]
    lines = [f"Data: {told['data']}, {', '.join(images)} images; the test images are those that were scored."]
    if counts := material.counts("train"):
        (largest, most), (smallest, least) = counts.most_common(1)[0], counts.most_common()[-1]
        of_each = f"{least:,} ({_plain(smallest)}) to {most:,} ({_plain(largest)})" if least < most else f"{most:,}"
        lines.append(f"Training images of each class: {of_each}.")
    lines += [
        f"Protocol {told['protocol']}, seed {told['seed']}, finished {told['finished']}.",
        f"Weights that it began with: {told['weights']}; licence: {told['license']}.",
    ]
    if bundle.photographs:
        shown = ", ".join(f"{_plain(name)} ({count})" for name, count in bundle.photographs.items())
        lines.append(f"Enrolled later, from so many photographs: {shown}.")
    return ["## What it was made from", _list(lines)]


def _scores(material: Material, bundle: Bundle) -> list[str]:
    head = "## How good it is"
    if not material.splits:
        return [head, "Nothing was scored. `fieldmark evaluate RUN` scores the test split."]
    names = [name for name in _SAID if any(name in split.scores for split in material.splits)]
    rows = [
        [split.title, f"{len(split.answers):,}", *(str(split.scores.get(name, "–")) for name in names)]
        for split in material.splits
    ]
    table = _table(["", "images", *(_SAID[name] for name in names)], rows)
    notes = ["In brackets are 95 % intervals."]
    if not any(split.name == "test" for split in material.splits):
        notes.append("No test images were scored, so these figures may be optimistic.")
    if any(split.enrolment != bundle.enrolled_as for split in material.splits):
        notes.append("Some were measured before classes were enrolled or taken out.")
    return [head, table, " ".join(notes)]


def _promises(bundle: Bundle) -> list[str]:
    thresholds = bundle.thresholds()
    head = "## What it promises"
    if thresholds is None:
        return [head, "Nothing: no images were held out, so its probabilities are not calibrated."]
    said = [f"{thresholds.promise.kept}."] if thresholds.promise.kept else []
    if thresholds.gives_sets:
        said.append(
            f"The sets of possible classes hold the right one for {100 * thresholds.coverage:g} % of the images."
        )
    said += [f"{note.rstrip('.')}." for note in thresholds.notes]
    said.append(
        "This holds for photographs like those that were held out: other cameras, places or seasons may be harder."
    )
    return [head, " ".join(said)]


def _weak(shown: Split | None) -> list[str]:
    """The classes that are found least often, and the pairs that are confused most."""
    if shown is None:
        return []
    found: list[str] = []
    rows = sorted((row for row in shown.of_classes.values() if row["recall"]), key=lambda row: float(row["recall"]))
    if rows:
        cells = [[_plain(row["class"]), row["images"], str(_recall(row))] for row in rows[:_WEAKEST]]
        found += [f"## Where it is weakest ({shown.title})", _table(["class", "images", "found"], cells)]
    if shown.confused:
        pairs = [
            [
                _plain(one.first),
                _plain(one.second),
                f"{one.first_as_second} of {one.num_first}",
                f"{one.second_as_first} of {one.num_second}",
            ]
            for one in shown.confused[:_PAIRS]
        ]
        header = ["one", "other", "one taken for the other", "the other way round"]
        found += [f"Confused most ({shown.title}):", _table(header, pairs)]
    return found


def _recall(row: Mapping[str, str]) -> Score:
    return Score(float(row["recall"]), float(row["recall.low"]), float(row["recall.high"]))


def _background(material: Material) -> list[str]:
    """How the accuracy depends on the scenery, if that was measured."""
    found = read_background(material)
    if found is None:
        return []
    measured = {str(name): Score.of(values) for name, values in found["accuracy"].items()}
    rows = [[title, str(measured[name])] for name, title in VIEWS.items() if name in measured]
    return ["## Background", f"{found['advice']}.", _table(["object shown", "right"], rows)]


def _limits(bundle: Bundle) -> list[str]:
    license = str(bundle.provenance.get("license", "unknown"))
    lines = [
        f"It knows {_classes(bundle)} and nothing else. A picture of something else may be noticed, but need not be.",
        "An answer that is not vouched for is a suggestion for somebody who knows, not a result.",
        "It must not decide alone where a mistake harms: on health, safety, the law, or a person.",
        "It has not been tested on other cameras, places and seasons than those of its data.",
    ]
    if is_noncommercial(license):
        lines.append(f"The licence of the weights that it began with, {license}, forbids commercial use.")
    elif "unknown" in license:
        lines.append("The licence of the weights that it began with is unknown: find out before you pass it on.")
    return ["## What it must not be used for", _list(lines)]


def _classes(bundle: Bundle) -> str:
    return "1 class" if len(bundle.classes) == 1 else f"{len(bundle.classes):,} classes"


def _names(names: Sequence[str], most: int) -> str:
    listed = ", ".join(map(_plain, names[:most]))
    return listed if len(names) <= most else f"{listed} and {len(names) - most:,} more"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is: names come from anywhere."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
