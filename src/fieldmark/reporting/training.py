"""Sections about the training: learning curves, the data and its parts, the time, what was trained."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from fieldmark.core.wording import duration
from fieldmark.data.catalog import SPLITS
from fieldmark.reporting.blocks import Bar, Block, Cell, Details, Figures, Gallery, Picture, Plots, Section, Table, Text
from fieldmark.reporting.material import Material
from fieldmark.reporting.plots import learning_curves

__all__ = ["data", "learning", "model", "stages", "time"]

MOST_EXAMPLES = 1000
"""Classes with an example, so that the page of ten thousand still opens."""
UNFOLDED = 48
"""Classes up to which the examples are not folded away."""
PROTOCOLS = {
    "holdout": "The model learnt from the training part; the validation part is for choosing options and thresholds.",
    "crossfit": "Each training image was answered by a model that had not seen it; then one model learnt from all.",
    "refit": "The model learnt from all training images, with options that were fixed beforehand.",
}


def learning(material: Material) -> Section:
    """The learning curves."""
    history = material.run.history()
    if history:
        last = history[-1]
        done = f"{last['epoch']} epochs, {last['step']:,} steps"
        if (members := material.recipe.train.members) > 1:
            text = f"{members} trainings of {done} each. The model is the mean of their last epochs' weights, a soup"
        else:
            text = f"{done}. The model is the last epoch"
        text += ": none was picked by its score."
        return Section("learning", "How it learnt", (Text(text), Plots(tuple(learning_curves(history)))))
    if material.recipe.train.solver == "logistic":
        text = (
            "There are no epochs: the backbone stayed as it is, and a logistic regression on its features is the head."
        )
    else:
        text = "No epoch is finished yet."
    return Section("learning", "How it learnt", (Text(text),))


def data(material: Material) -> Section | None:
    """What the data consists of, and how it was split."""
    if not material.data:
        return None
    counts, recipe = material.data["counts"], material.recipe
    figures = [(f"{counts[part]:,}", f"{part} images") for part in SPLITS if counts[part]]
    figures.append((f"{len(material.classes):,}", "classes"))
    blocks: list[Block] = [
        Text(f"{material.data['name']}, from {material.data['source']}"),
        Figures(tuple(figures)),
        Text(f"Protocol {recipe.protocol}. {PROTOCOLS[recipe.protocol]} {_split(material)}"),
    ]
    if material.lost:
        blocks.append(Text(f"The data cannot be read as it was: {material.lost}", "warn"))
    examples = _examples(material)
    few = len(material.classes) <= UNFOLDED
    blocks.append(examples if few else Details(f"An example of {_how_many(material)}", (examples,)))
    blocks.append(Details("Images of each class and part", (_class_table(material),)))
    return Section("data", "The data", tuple(blocks))


def _split(material: Material) -> str:
    """How the parts came about, as far as the data can still be asked."""
    if material.catalog is None:
        return ""
    given = {part for part in SPLITS if (material.catalog.splits == part).any()}
    used = {part for part in SPLITS if material.data["counts"][part]}
    together = "class by class; near-duplicates stayed together"
    if (material.catalog.groups != "").any():
        together += ", and so did groups"
    if not given:
        return f"The data came without parts and was cut {together}."
    if used - given:
        return f"The validation part was cut from the training part, {together}."
    return "The parts are those that the data came with."


def _how_many(material: Material) -> str:
    number = len(material.classes)
    return f"each of {number:,} classes" if number <= MOST_EXAMPLES else f"the first {MOST_EXAMPLES:,} classes"


def _examples(material: Material) -> Gallery:
    shown = []
    for name in material.classes[:MOST_EXAMPLES]:
        paths = material.learnt.get(name, ())
        image = material.pictures(paths[0], side=112) if paths else None
        note = f"{len(paths):,} learnt from" if paths else "no training image"
        shown.append(Picture(image, paths[0] if paths else "", (name, note)))
    return Gallery(tuple(shown), small=True)


def _class_table(material: Material) -> Table:
    counts = {part: material.counts(part) for part in SPLITS}
    # the labels of a test part that nobody has scored are none of this page's business
    parts = [part for part in SPLITS if counts[part]]
    rows: list[tuple[Cell, ...]] = [(name, *(counts[part][name] for part in parts)) for name in material.classes]
    return Table(("class", *parts), tuple(rows))


def time(material: Material) -> Section | None:
    """How long it took and where the time went."""
    spent = stages(material)
    total = sum(spent.values())
    if not total:
        return None
    rows: list[tuple[Cell, ...]] = [
        (name, duration(seconds), Bar(seconds / total, f"{100 * seconds / total:.0f} %"))
        for name, seconds in spent.items()
    ]
    text = f"{duration(total)} in all, over every sitting; of one that was killed, the training steps alone."
    return Section("time", "Where the time went", (Text(text), Table(("", "time", ""), tuple(rows))))


def stages(material: Material) -> dict[str, float]:
    """Stage → seconds, without those that took none."""
    times = material.run.times()
    history = material.run.history()
    steps = sum({line["fit"]: line["seconds"] for line in history}.values())  # they add up within a fit
    validation = sum(line.get("validation_seconds", 0.0) for line in history)
    training = times.get("training", 0.0)
    found = {"reading and decoding the images": times.get("reading", 0.0)}
    if history:
        found["training steps"] = steps
        found["looking at the validation part"] = validation
        found["loading weights, waiting for images, saving"] = max(0.0, training - steps - validation)
    else:
        found["features and their linear head"] = training
    found["answering whole parts"] = times.get("evaluating", 0.0)
    return {name: seconds for name, seconds in found.items() if seconds > 0}


def model(material: Material) -> Section:
    """What was trained, by which recipe, from which weights, on what machine."""
    recipe, environment, provenance = material.recipe, material.environment, material.provenance
    machine = environment["machine"]
    rows: list[tuple[Cell, ...]] = [
        ("backbone", recipe.backbone.name),
        ("weights", recipe.backbone.weights),
        ("licence of the weights", provenance.get("license") or "not known"),
        ("method", _with_options(recipe.method.name, recipe.method.options)),
        ("image size", f"{recipe.images.size} px, trained at {recipe.images.train_size} px"),
        ("seed", str(recipe.seed)),
        ("calibrated", "yes" if provenance.get("calibrated") else "no: take probabilities with care"),
        ("device", f"{machine['device']}, threads: {machine['threads']}, {machine['precision']}"),
        ("platform", f"{environment['platform']}, Python {environment['python']}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in environment["packages"].items())),
        ("Fieldmark", environment["fieldmark"]),
        ("begun, finished", f"{environment['started']}, {provenance.get('finished', 'not finished')}"),
        ("command", shlex.join(environment["command"])),
    ]
    written = (material.run.folder / "recipe.toml").read_text(encoding="utf-8").splitlines()
    settings = tuple((line,) for line in written if line.strip())
    details = Details("The whole recipe: running it again repeats the run", (Table(("recipe.toml",), settings),))
    return Section("model", "What was trained", (Table(("", ""), tuple(rows)), details))


def _with_options(name: str, options: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key} {value}" for key, value in options.items())
    return f"{name} ({said})" if said else name
