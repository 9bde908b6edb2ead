"""Sections about what the model answered: scores, predictions, look-alikes, classes, mistakes, slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fieldmark.evaluation.metrics import ConfusedPair, wilson
from fieldmark.reporting.blocks import (
    Block,
    Cell,
    Columns,
    Details,
    Gallery,
    Interval,
    Picture,
    Plots,
    Section,
    Table,
    Text,
)
from fieldmark.reporting.groupings import groupings
from fieldmark.reporting.material import Answer, Material, Part
from fieldmark.reporting.pairs import panel
from fieldmark.reporting.plots import reliability, risk_coverage
from fieldmark.reporting.slices import LEAST, LEVEL, Slice, Slicing, accuracy_by_slice

__all__ = ["NUM_PAIRS", "classes", "look_alikes", "mistakes", "predictions", "scores", "slices"]

NUM_PREDICTIONS = 18
NUM_MISTAKES = 12
NUM_PAIRS = 6
NUM_OF_PAIR = 4
NUM_WORST = 10
TITLES = {
    "top1": "right at once (top-1)",
    "top5": "among the first five (top-5)",
    "mean_class_accuracy": "mean over the classes",
    "nll": "negative log-likelihood",
    "calibration_error": "calibration error",
    "quadratic_kappa": "quadratic weighted kappa of the grades",
    "grade_error": "mean error in grades",
    "tree_distance": "mean distance in the tree",
    "mistake_severity": "mean distance in the tree, of mistakes",
}


def scores(material: Material) -> Section | None:
    """The headline scores of each evaluated part, and whether its probabilities can be believed."""
    if (shown := material.shown) is None:
        return None
    names = [name for name in TITLES if name in shown.scores and (name != "top5" or len(material.classes) > 5)]
    rows = [(TITLES[name], *(_score(part, name) for part in material.parts)) for name in names]
    header = ("", *(f"{part.title}, {len(part.answers):,} images" for part in material.parts))
    blocks: list[Block] = [Text(_standing(material, shown))]
    if shown.looks and shown.looks > 1:
        times = f"This test part has been scored {shown.looks} times on this machine"
        blocks.append(Text(f"{times}: the more looks, the likelier that a choice was made by it.", "warn"))
    blocks.append(Table(header, tuple(rows)))
    blocks.append(
        Text("With 95 % intervals: how far a figure would move with another sample of as many images.", "soft")
    )
    if shown.attributes:
        told = tuple((name, Interval(score), number) for name, (score, number) in shown.attributes.items())
        blocks.append(Table(("attribute", "balanced accuracy", "images that say it"), told))
    if shown.unreadable:
        blocks.append(Text(f"Left out, since they cannot be read: {_some(shown.unreadable)}.", "warn"))
    curves = [reliability(shown.answers)]
    if shown.verdicts:
        curves.append(risk_coverage(shown.verdicts["risk"]))
    blocks.append(Plots(tuple(curves)))
    calibrated = material.provenance.get("calibrated")
    meaning = (
        "On the dashed line an answer is right as often as it is sure; below it is too sure, above not sure enough."
    )
    blocks.append(Text(meaning if calibrated else f"{meaning} This model's probabilities are not calibrated.", "soft"))
    return Section("scores", "How good it is", tuple(blocks))


def _score(part: Part, name: str) -> Cell:
    score = part.scores.get(name)
    if score is None:
        return "–"
    return Interval(score) if name in ("top1", "top5", "mean_class_accuracy") else str(score)


def _standing(material: Material, shown: Part) -> str:
    """Which part the page is about, and what its figures are worth."""
    here = f"This page shows the {shown.title}, {len(shown.answers):,} images"
    if shown.name == "test":
        return f"{here}, which training has not touched."
    if shown.name == "train":
        return f"{here}, which the model has learnt from: the figures say little about other images."
    if shown.name == "val":
        here += ", not learnt from, but the figures flatter where options were chosen by it"
    elif shown.name == "crossfit":
        here += ", each answered by a model that has not seen it"
    scored = any(part.name == "test" for part in material.parts)
    if scored or not material.data["counts"]["test"]:
        return f"{here}."
    return f"{here}. The test part is scored by: fieldmark evaluate {material.run.folder}"


def predictions(material: Material) -> Section | None:
    """A grid of predictions, drawn by chance."""
    if (shown := material.shown) is None:
        return None
    drawn = shown.sample(NUM_PREDICTIONS)
    right = sum(answer.right for answer in drawn)
    text = (
        f"{len(drawn)} of {len(shown.answers):,} images, drawn by chance; {right} are right (✓). "
        "Below a wrong answer (✗) stands what it is."
    )
    blocks: list[Block] = [Text(text)]
    if any(answer.level for answer in shown.answers):
        blocks.append(Text(_vouched(shown), "soft"))
    return Section("predictions", "Predictions", (*blocks, _answers(material, drawn)))


def _vouched(shown: Part) -> str:
    """How far verdicts go along with the likeliest class, for right answers and for wrong ones."""
    parts = []
    for word, answers in (("right", [a for a in shown.answers if a.right]), ("wrong", shown.mistakes)):
        if answers:
            parts.append(f"{sum(not a.backed_off for a in answers):,} of {len(answers):,} that are {word}")
    return (
        f"The verdict vouches for the likeliest class of {' and '.join(parts)}. "
        "Where it vouches for less, that is said below the picture."
    )


def mistakes(material: Material) -> Section | None:
    """The most confident mistakes."""
    if (shown := material.shown) is None:
        return None
    wrong = shown.mistakes
    if not wrong:
        text = f"None: all {len(shown.answers):,} images are right."
        return Section("mistakes", "The most confident mistakes", (Text(text),))
    count = f"{min(NUM_MISTAKES, len(wrong))} of {len(wrong):,} mistakes"
    text = f"{count}, the surest first. Look at the labels, too: it may be they that err."
    blocks = (Text(text), _answers(material, wrong[:NUM_MISTAKES]))
    return Section("mistakes", "The most confident mistakes", blocks)


def _answers(material: Material, answers: Iterable[Answer]) -> Gallery:
    return Gallery(tuple(_answer(material, answer) for answer in answers))


def _answer(material: Material, answer: Answer) -> Picture:
    lines = [f"{'✓' if answer.right else '✗'} {answer.predicted} {_percent(answer.probability)}"]
    if not answer.right:
        lines.append(f"is {answer.label} {_percent(answer.label_probability)}")
    if answer.backed_off:
        lines.append(f"verdict: {answer.name} ({answer.level})" if answer.name else "verdict: none given")
    return Picture(material.pictures(answer.path), answer.path, tuple(lines), answer.right)


def look_alikes(material: Material) -> Section | None:
    """The pairs that are confused most, with training pictures of both and the mistaken ones between."""
    shown = material.shown
    if shown is None or not shown.confused:
        return None
    pairs = shown.confused[:NUM_PAIRS]
    text = "The pairs with most mistakes: training pictures of one and of the other, between them what was mistaken."
    blocks: list[Block] = [Text(text)]
    for pair in pairs:
        blocks.append(_pair(material, shown, pair))
        blocks += map(panel, material.explained.get((pair.first, pair.second), ()))
    return Section("look-alikes", "Look-alikes", tuple(blocks))


def _pair(material: Material, shown: Part, pair: ConfusedPair) -> Columns:
    both = {pair.first, pair.second}
    between = [answer for answer in shown.mistakes if {answer.label, answer.predicted} == both]
    # some of either direction where there are both
    one = [answer for answer in between if answer.label == pair.first][: NUM_OF_PAIR - min(2, pair.second_as_first)]
    other = [answer for answer in between if answer.label == pair.second][: NUM_OF_PAIR - len(one)]
    return Columns(
        f"{pair.first} ↔ {pair.second}: {pair.mistakes} of {pair.num_first + pair.num_second} mistaken",
        (
            _learnt(material, pair.first, pair.first_as_second, pair.num_first),
            ("Mistaken", (Text("✗ what was said, then what it is", "soft"), _answers(material, one + other))),
            _learnt(material, pair.second, pair.second_as_first, pair.num_second),
        ),
        abreast=True,
    )


def _learnt(material: Material, name: str, mistaken: int, number: int) -> tuple[str, tuple[Block, ...]]:
    """Some training pictures of a class, spread over what there is, with how often it was taken for the other."""
    paths = material.learnt.get(name, ())
    spread = paths[:: max(1, len(paths) // NUM_OF_PAIR)][:NUM_OF_PAIR]
    pictures = Gallery(tuple(Picture(material.pictures(path), path, ()) for path in spread))
    return name, (Text(f"learnt from; {mistaken or 'none'} of {number} taken for the other", "soft"), pictures)


def classes(material: Material) -> Section | None:
    """The worst classes, and all of them."""
    if (shown := material.shown) is None:
        return None
    total, right = Counter(a.label for a in shown.answers), Counter(a.label for a in shown.answers if a.right)
    taken: dict[str, Counter[str]] = {}
    for answer in shown.mistakes:
        taken.setdefault(answer.label, Counter())[answer.predicted] += 1
    learnt = material.counts("train")
    order = sorted(total, key=lambda name: (wilson(right[name], total[name]).high, name))
    worst = [name for name in order if name in taken][:NUM_WORST]

    def row(name: str) -> tuple[Cell, ...]:
        said = ", ".join(f"{other} {n}" for other, n in taken.get(name, Counter()).most_common(3))
        return name, Interval(wilson(right[name], total[name])), said or "–", total[name], learnt[name]

    header = ("class", "right", "taken for", "images", "learnt from")
    text = "By the upper end of the interval, so that a class of few images does not lead by bad luck."
    blocks: list[Block] = [Text(text), Table(header, tuple(map(row, worst)))] if worst else [Text("None errs.")]
    if len(order) > len(worst):
        named = {name: at for at, name in enumerate(material.classes)}
        rows = tuple(row(name) for name in sorted(order, key=lambda name: named.get(name, -1)))
        blocks.append(Details(f"All {len(order):,} classes", (Table(header, rows),)))
    return Section("classes", "The worst classes", tuple(blocks))


def slices(material: Material) -> Section | None:
    """Accuracy by whatever the data knows of its images."""
    if (shown := material.shown) is None:
        return None
    found = accuracy_by_slice(shown.correct, groupings(material, shown))
    if not found:
        return None
    num = sum(len(slicing.slices) + slicing.num_more for slicing in found)
    marked = [(s.name, one) for s in found for one in s.slices if one.differs]
    summary = "; ".join(f"{name} {one.value} is {_word(one)}" for name, one in marked[:6]) or "no slice differs"
    text = (
        f"{num} slices were each compared with the other images; a mark says that one differs by more than chance "
        f"(Fisher's exact test, corrected for all of them, at {_percent(LEVEL)}). Found: {summary}."
    )
    blocks: list[Block] = [Text(text)]
    if material.catalog is None:
        blocks.append(Text(f"Attributes, boxes and groups are missing here: {material.lost}", "warn"))
    blocks.append(Columns("", tuple((slicing.name, _slicing(slicing)) for slicing in found)))
    blocks.append(Text("A difference is no cause: a slice may hold harder classes.", "soft"))
    return Section("slices", "Where it is better and worse", tuple(blocks))


def _slicing(slicing: Slicing) -> tuple[Block, ...]:
    table = Table(("", "images", "right"), tuple(_slice(one) for one in slicing.slices))
    notes = []
    if slicing.num_more:
        notes.append(f"{slicing.num_more} more differ less.")
    if slicing.num_small:
        notes.append(f"{slicing.num_small} with fewer than {LEAST} images are left out.")
    return (table, Text(" ".join(notes), "soft")) if notes else (table,)


def _slice(one: Slice) -> tuple[Cell, ...]:
    if not one.differs:
        return one.value, one.total, Interval(one.accuracy)
    arrow = "▲" if _word(one) == "better" else "▼"
    note = f"{arrow} {_word(one)} than the others ({_percent(one.rest)}), p {_p(one.p)}"
    return one.value, one.total, Interval(one.accuracy, "right" if _word(one) == "better" else "wrong", note)


def _word(one: Slice) -> str:
    return "better" if one.accuracy.value > one.rest else "worse"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _percent(share: float) -> str:
    number = ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"  # what is not certain is not called so
    return f"{number}\u00a0%"  # the sign stays with its number


def _some(paths: Iterable[str], limit: int = 5) -> str:
    names = list(paths)
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
