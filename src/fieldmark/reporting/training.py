"""Sections about the training: learning curves, the data and its splits, the time, the model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from fieldmark.core.wording import counted, duration, first_few
from fieldmark.data.catalog import SPLITS
from fieldmark.evaluation.beside_probe import BesideProbe, Trial
from fieldmark.evaluation.changed import Changed
from fieldmark.evaluation.unlabelled import PseudoLabelled
from fieldmark.reporting.blocks import (
    MOST_CLASSES,
    Bar,
    Block,
    Cell,
    Details,
    Figures,
    Gallery,
    Picture,
    Plots,
    Section,
    Table,
    Text,
)
from fieldmark.reporting.material import Material
from fieldmark.reporting.plots import learning_curves
from fieldmark.runs.budgeted import budget_of
from fieldmark.runs.facts import Facts, LogLine, Source
from fieldmark.runs.run import Run

__all__ = ["changed", "data", "learning", "model", "stages", "time"]

MOST_NAMED = 20
"""New classes that are named."""
UNFOLDED = 48
"""The most classes whose examples are not folded away."""
_IMAGES = {"train": "training images", "val": "validation images", "test": "test images"}
PROTOCOLS = {
    "holdout": "The model was trained on the training split; options and thresholds are chosen on validation images.",
    "crossfit": "Each training image was answered by a model that had not seen it; one model was then trained on all.",
    "refit": "The model was trained on all training images, with options that were fixed beforehand.",
}


def learning(material: Material) -> Section:
    """The learning curves, and whether they were worth their time."""
    run = material.run
    history = _of_what_ships(run)
    blocks: list[Block] = []
    if trial := run.decided("trial"):
        blocks.append(Text(f"{Trial(**trial).sentence()}."))
    if taught := run.decided("pseudo_labels"):
        blocks.append(Text(f"{PseudoLabelled(**taught).sentence()}."))
    if history:
        last = history[-1]
        done = f"{counted(last['epoch'], 'epoch')}, {counted(last['step'], 'step')}"
        if (members := material.recipe.train.members) > 1:
            text = f"{members} trainings of {done} each. The final weights are the mean over their last epochs (a soup)"
        else:
            text = f"{done}. The final weights are those of the last epoch"
        text += "; no epoch was chosen by its score."
        blocks += [Text(text), Plots(tuple(learning_curves(history)))]
        if found := run.decided("beside_probe"):
            blocks.append(Text(f"{BesideProbe(**found).sentence(material.data['counts']['val'])}."))
    elif run.solver == "logistic":
        text = (
            "There are no epochs: the backbone was not trained, and the head is a logistic regression on its features."
        )
        blocks.append(Text(text))
    else:
        blocks.append(Text("No epoch is finished yet."))
    return Section("learning", "Training", tuple(blocks))


def _of_what_ships(run: Run) -> list[LogLine]:
    """The epochs of the model that ships, without those of others that were tried."""
    history = [line for line in run.history() if line["fit"] != "trial"]
    if (facts := budget_of(run)) is None:
        return history
    names = {one["name"] for one in facts["trials"] if not one["rounds"] and run.solver != "logistic"}
    return [line for line in history if line["fit"] in names]


def changed(material: Material) -> Section | None:
    """What changed since the run that this one goes on from, on images that both held out."""
    run = material.run
    if not (older := run.decided("older")):
        return None
    new = run.decided("grown") or {"images": 0, "train": 0, "classes": []}
    text = f"This run goes on from {older['run']}, with {counted(new['images'], 'new photograph')}"
    text += f", {new['train']:,} of them to learn from."
    if new["classes"]:
        text += f" New classes: {first_few(new['classes'], MOST_NAMED)}."
    blocks: list[Block] = [Text(text)]
    if values := run.decided("changed"):
        found = Changed.from_dict(values)
        said = found.sentences()
        blocks.append(Text(". ".join([said[0], *said[1 + bool(found.classes) :]]) + "."))
        rows = tuple((one.name, f"{one.images:,}", f"{one.before:,}", f"{one.after:,}") for one in found.classes)
        if rows:
            table = Table(("class", "images", "right before", "right now"), rows)
            number = f"{len(rows):,} class" if len(rows) == 1 else f"{len(rows):,} classes"
            blocks.append(Details(f"{number} with another number of right answers", (table,)))
    elif run.is_finished:
        blocks.append(Text("No image was held out by both runs, so what changed is not known."))
    return Section("changed", "What changed", tuple(blocks))


def data(material: Material) -> Section | None:
    """The contents of the data, and how it was split."""
    if not material.data:
        return None
    counts, recipe = material.data["counts"], material.recipe
    figures = [(f"{counts[split]:,}", _IMAGES[split]) for split in SPLITS if counts[split]]
    figures.append((f"{len(material.classes):,}", "classes"))
    blocks: list[Block] = [
        Text(f"{material.data['name']}, from {' and '.join(one['source'] for one in _sources(material.data))}"),
        Figures(tuple(figures)),
        Text(f"Protocol: {recipe.protocol}. {PROTOCOLS[recipe.protocol]} {_split(material)}"),
    ]
    if material.lost:
        blocks.append(Text(f"The data can no longer be read: {material.lost}", "warn"))
    examples = _examples(material)
    few = len(material.classes) <= UNFOLDED
    blocks.append(examples if few else Details(f"One example of {_how_many(material)}", (examples,)))
    blocks.append(_per_class(material))
    return Section("data", "Data", tuple(blocks))


def _sources(data: Facts) -> list[Source]:
    return [data, *data.get("further", ())]


def _split(material: Material) -> str:
    """How the data was split, if the data can still be read."""
    if material.catalog is None:
        return ""
    given = {split for split in SPLITS if (material.catalog.splits == split).any()}
    used = {split for split in SPLITS if material.data["counts"][split]}
    if material.run.decided("older"):
        return (
            "Images of the older run keep their splits; new ones were split class by class, beside what they belong to."
        )
    together = "class by class, with near-duplicates kept together"
    if (material.catalog.groups != "").any():
        together = "class by class, with near-duplicates and groups kept together"
    if not given:
        return f"The data came without splits and was split {together}."
    if used - given:
        return f"The validation split was taken from the training split, {together}."
    return "The splits are those that came with the data."


def _how_many(material: Material) -> str:
    number = len(material.classes)
    return f"each of the {number:,} classes" if number <= MOST_CLASSES else f"the first {MOST_CLASSES:,} classes"


def _examples(material: Material) -> Gallery:
    shown = []
    for name in material.classes[:MOST_CLASSES]:
        paths = material.learnt.get(name, ())
        image = material.pictures(paths[0], side=112) if paths else None
        note = counted(len(paths), "training image") if paths else "no training images"
        shown.append(Picture(image, paths[0] if paths else "", (name, note)))
    return Gallery(tuple(shown), small=True)


def _per_class(material: Material) -> Details:
    """How many images each class has in each split; of very many classes, those with the fewest to learn from."""
    counts = {split: material.counts(split) for split in SPLITS}
    # the labels of a test split that has not been scored stay unread
    splits = [split for split in SPLITS if counts[split]]
    names, title, rest = material.classes, "Images per class and split", tuple[Block, ...]()
    if len(names) > MOST_CLASSES:
        names = sorted(names, key=counts["train"].__getitem__)[:MOST_CLASSES]
        title += f", of the {MOST_CLASSES} classes with the fewest training images"
        rest = (Text(f"{material.run.folder / 'splits.csv'} lists every image with its class.", "soft"),)
    rows: list[tuple[Cell, ...]] = [(name, *(counts[split][name] for split in splits)) for name in names]
    return Details(title, (*rest, Table(("class", *splits), tuple(rows))))


def time(material: Material) -> Section | None:
    """The total time and how it was spent."""
    spent = stages(material)
    total = sum(spent.values())
    if not total:
        return None
    rows: list[tuple[Cell, ...]] = [
        (name, duration(seconds), Bar(seconds / total, f"{100 * seconds / total:.0f} %"))
        for name, seconds in spent.items()
    ]
    text = f"{duration(total)} in total, over all sessions. Of a killed session, only the training steps count."
    return Section("time", "Where the time went", (Text(text), Table(("", "time", ""), tuple(rows))))


def stages(material: Material) -> dict[str, float]:
    """The seconds of each stage, without stages that took no time."""
    times = material.run.times()
    history = material.run.history()
    steps = material.run.step_seconds()
    validation = sum(line.get("validation_seconds", 0.0) for line in history)
    training = times.get("training", 0.0)
    found = {"reading and decoding the images": times.get("reading", 0.0)}
    if history:
        found["training steps"] = steps
        found["validation"] = validation
        found["loading weights, waiting for images, saving"] = max(0.0, training - steps - validation)
    else:
        found["extracting features, fitting the linear head"] = training
    found["evaluating"] = times.get("evaluating", 0.0)
    return {name: seconds for name, seconds in found.items() if seconds > 0}


def model(material: Material) -> Section:
    """The model: its recipe, its initial weights and the machine it was trained on."""
    recipe, environment, provenance = material.recipe, material.environment, material.provenance
    machine = environment["machine"]
    compiled = ", compiled" if machine.get("compiled") else ""
    rows: list[tuple[Cell, ...]] = [
        ("backbone", recipe.backbone.name),
        ("weights", material.run.decided("weights") or recipe.backbone.weights),
        ("licence of the weights", provenance.get("license") or "unknown"),
        ("method", _with_options(recipe.method.name, recipe.method.options)),
        ("image size", f"{recipe.images.size} px, trained at {recipe.images.train_size} px"),
        ("seed", str(recipe.seed)),
        ("calibrated", "yes" if provenance.get("calibrated") else "no: treat the probabilities with care"),
        ("device", f"{machine['device']}, threads: {machine['threads']}, {machine['precision']}{compiled}"),
        ("platform", f"{environment['platform']}, Python {environment['python']}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in environment["packages"].items())),
        ("Fieldmark", environment["fieldmark"]),
        ("started, finished", f"{environment['started']}, {provenance.get('finished', 'not finished')}"),
        ("command", shlex.join(environment["command"])),
    ]
    written = (material.run.folder / "recipe.toml").read_text(encoding="utf-8").splitlines()
    settings = tuple((line,) for line in written if line.strip())
    details = Details("The full recipe (running it again repeats the run)", (Table(("recipe.toml",), settings),))
    return Section("model", "Model", (Table(("", ""), tuple(rows)), details))


def _with_options(name: str, options: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key} {value}" for key, value in options.items())
    return f"{name} ({said})" if said else name
