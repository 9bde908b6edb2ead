"""Sections about what the model answered: scores, predictions, look-alikes, classes, mistakes, slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fieldmark.core.wording import counted, first_few
from fieldmark.evaluation.metrics import ConfusedPair, Score, wilson
from fieldmark.reporting.blocks import (
    MOST_CLASSES,
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
from fieldmark.reporting.material import Answer, Material, Split
from fieldmark.reporting.pairs import panel
from fieldmark.reporting.plots import reliability, risk_coverage
from fieldmark.reporting.slices import LEAST, LEVEL, Slice, Slicing, accuracy_by_slice
from fieldmark.runs.facts import SCORE_TITLES, DetectionValues, VerdictValues

__all__ = ["NUM_PAIRS", "classes", "look_alikes", "mistakes", "predictions", "scores", "slices"]

NUM_PREDICTIONS = 18
NUM_MISTAKES = 12
NUM_PAIRS = 6
NUM_OF_PAIR = 4
NUM_WORST = 10


def scores(material: Material) -> Section | None:
    """The headline scores of each evaluated split, and whether its probabilities can be trusted."""
    if (shown := material.shown) is None:
        return None
    names = [name for name in SCORE_TITLES if name in shown.scores and (name != "top5" or len(material.classes) > 5)]
    rows = [(SCORE_TITLES[name], *(_score(split, name) for split in material.splits)) for name in names]
    header = ("", *(f"{split.title}, {counted(len(split.answers), 'image')}" for split in material.splits))
    blocks: list[Block] = [Text(_standing(material, shown))]
    if shown.looks and shown.looks > 1:
        times = f"The test split has been scored {shown.looks} times on this machine"
        blocks.append(Text(f"{times}. The more often, the more likely it is that a choice was based on it.", "warn"))
    blocks.append(Table(header, tuple(rows)))
    blocks.append(
        Text("The 95 % intervals show how much a score could vary with another sample of the same size.", "soft")
    )
    if shown.attributes:
        rows_of = tuple((name, Interval(score), number) for name, (score, number) in shown.attributes.items())
        blocks.append(Table(("attribute", "balanced accuracy", "labelled images"), rows_of))
    if shown.unreadable:
        blocks.append(Text(f"Left out because they cannot be read: {first_few(shown.unreadable, 5)}.", "warn"))
    if shown.verdicts:
        blocks += _promises(shown.verdicts)
    if shown.of_interest:
        blocks += _interest(shown.of_interest)
    curves = [reliability(shown.answers)]
    if shown.verdicts:
        curves.append(risk_coverage(shown.verdicts["risk"]))
    blocks.append(Plots(tuple(curves)))
    calibrated = material.provenance.get("calibrated")
    meaning = (
        "On the dashed line, the model is correct as often as its probabilities say; below it the model is "
        "overconfident, above it underconfident."
    )
    if not calibrated:
        meaning += " This model's probabilities are not calibrated, so none of its answers is vouched for."
    blocks.append(Text(meaning, "soft"))
    return Section("scores", "Scores", tuple(blocks))


def _promises(verdicts: VerdictValues) -> list[Block]:
    """What is promised of the names given, what was measured, and how many images get one."""
    promised, right, shares = verdicts.get("promised"), verdicts.get("right"), verdicts["shares"]
    if not isinstance(promised, float):  # True or False where an earlier version evaluated
        text = "No accuracy can be promised from these held-out images, so no answer is vouched for."
        return [Text(text, "warn")] if promised is None else []
    named = sum(share for name, share in shares.items() if name not in ("unsure", "unknown"))
    measured = Interval(Score.of(right)) if right else "–"
    rows = [("promised accuracy of the names given", _percent(promised)), ("measured", measured)]
    rows.append(("images vouched for", _percent(named)))
    others = [
        f"{100 * float(accuracy):g} %: {_percent(share)}"
        for accuracy, share in verdicts.get("promises", {}).items()
        if share is not None and float(accuracy) != promised
    ]
    if others:
        rows.append(("images vouched for, if asked for", ", ".join(others)))
    return [Table(("what verdicts promise", ""), tuple(rows))]


def _interest(found: Sequence[DetectionValues]) -> list[Block]:
    """Sensitivity and specificity of the classes that must not be missed."""
    rows = tuple(
        (
            one["name"],
            _percent(one["threshold"]),
            Interval(Score.of(one["sensitivity"])),
            Interval(Score.of(one["specificity"])),
        )
        for one in found
    )
    header = ("class of interest", "found if at least", "sensitivity", "specificity")
    asked = f"The operating point finds {_percent(found[0]['asked'])} of the held-out images of the class."
    return [Table(header, rows), Text(asked, "soft")]


def _score(split: Split, name: str) -> Cell:
    score = split.scores.get(name)
    if score is None:
        return "–"
    return Interval(score) if name in ("top1", "top5", "mean_class_accuracy", "majority") else str(score)


def _standing(material: Material, shown: Split) -> str:
    """Which split the page shows, and how far its scores can be trusted."""
    title = shown.title if shown.name == "all" else f"the {shown.title}"
    here = f"This page shows {title} ({counted(len(shown.answers), 'image')})"
    if shown.name == "test":
        return f"{here}, which was not used in training."
    if shown.name == "train":
        return f"{here}. The model was trained on these images, so the scores say little about new ones."
    if shown.name == "val":
        here += ". The model was not trained on these images, but options chosen on them make the scores optimistic"
    elif shown.name == "crossfit":
        here += ". Each image was answered by a model that had not been trained on it"
    scored = any(split.name == "test" for split in material.splits)
    if scored or not material.data["counts"]["test"]:
        return f"{here}."
    return f"{here}. To score the test split: fieldmark evaluate {material.run.folder}"


def predictions(material: Material) -> Section | None:
    """A grid of predictions, drawn at random."""
    if (shown := material.shown) is None:
        return None
    drawn = shown.sample(NUM_PREDICTIONS)
    right = sum(answer.right for answer in drawn)
    text = (
        f"{len(drawn)} of {counted(len(shown.answers), 'image')}, drawn at random; {right} of them correct (✓). "
        "A wrong answer (✗) also shows the true class."
    )
    blocks: list[Block] = [Text(text)]
    if any(answer.level for answer in shown.answers):
        blocks.append(Text(_agreement(shown), "soft"))
    return Section("predictions", "Predictions", (*blocks, _answers(material, drawn)))


def _agreement(shown: Split) -> str:
    """How often the verdict names the predicted class, where that is correct and where it is wrong."""
    cases = []
    for word, answers in (("correct", [a for a in shown.answers if a.right]), ("wrong", shown.mistakes)):
        if answers:
            named = sum(not answer.backed_off for answer in answers)
            cases.append(f"in {named:,} of {counted(len(answers), 'case')} where that class is {word}")
    return (
        f"The verdict names the predicted class {' and '.join(cases)}. "
        "Otherwise the verdict is given below the picture, or that nobody vouches for the class."
    )


def mistakes(material: Material) -> Section | None:
    """The most confident mistakes."""
    if (shown := material.shown) is None:
        return None
    wrong = shown.mistakes
    if not wrong:
        text = f"There are none in {counted(len(shown.answers), 'image')}."
        return Section("mistakes", "The most confident mistakes", (Text(text),))
    count = counted(len(wrong), "mistake")
    if len(wrong) > NUM_MISTAKES:
        count = f"{NUM_MISTAKES} of {count}"
    order = ", the most confident first" if len(wrong) > 1 else ""
    text = f"{count}{order}. Check the labels too: sometimes it is the label that is wrong."
    blocks = (Text(text), _answers(material, wrong[:NUM_MISTAKES]))
    return Section("mistakes", "The most confident mistakes", blocks)


def _answers(material: Material, answers: Iterable[Answer]) -> Gallery:
    return Gallery(tuple(_answer(material, answer) for answer in answers))


def _answer(material: Material, answer: Answer) -> Picture:
    mark = "✓" if answer.right else "✗"
    if not answer.familiar:  # the probabilities of classes mean nothing where the picture is like none of them
        lines = [f"{mark} {answer.predicted}", "verdict: no answer, unlike the known classes"]
    else:
        lines = [f"{mark} {answer.predicted} {_percent(answer.probability)}"]
        if answer.promised is None:
            lines.append("not vouched for")
        elif answer.backed_off:
            lines.append(f"verdict: {answer.name} ({answer.level})")
    if not answer.right:
        shown = f" {_percent(answer.label_probability)}" if answer.familiar else ""
        lines.insert(1, f"true class: {answer.label}{shown}")
    return Picture(material.pictures(answer.path), answer.path, tuple(lines), answer.right)


def look_alikes(material: Material) -> Section | None:
    """The pairs of classes that are confused most, with training images of both and the mistakes between them."""
    shown = material.shown
    if shown is None or not shown.confused:
        return None
    pairs = shown.confused[:NUM_PAIRS]
    text = "The pairs of classes confused most often. The mistakes are shown between training images of both."
    blocks: list[Block] = [Text(text)]
    for pair in pairs:
        blocks.append(_pair(material, shown, pair))
        blocks += map(panel, material.explained.get((pair.first, pair.second), ()))
    return Section("look-alikes", "Look-alikes", tuple(blocks))


def _pair(material: Material, shown: Split, pair: ConfusedPair) -> Columns:
    both = {pair.first, pair.second}
    between = [answer for answer in shown.mistakes if {answer.label, answer.predicted} == both]
    # some of either direction where there are both
    one = [answer for answer in between if answer.label == pair.first][: NUM_OF_PAIR - min(2, pair.second_as_first)]
    other = [answer for answer in between if answer.label == pair.second][: NUM_OF_PAIR - len(one)]
    images = counted(pair.num_first + pair.num_second, "image")
    return Columns(
        f"{pair.first} ↔ {pair.second}: {pair.mistakes:,} of {images} confused",
        (
            _learnt(material, pair.first, pair.first_as_second, pair.num_first),
            ("Confused", (Text("✗ predicted class, then true class", "soft"), _answers(material, one + other))),
            _learnt(material, pair.second, pair.second_as_first, pair.num_second),
        ),
        abreast=True,
    )


def _learnt(material: Material, name: str, mistaken: int, number: int) -> tuple[str, tuple[Block, ...]]:
    """Some training images of a class, evenly spaced, and how often the class was taken for the other."""
    paths = material.learnt.get(name, ())
    spread = paths[:: max(1, len(paths) // NUM_OF_PAIR)][:NUM_OF_PAIR]
    pictures = Gallery(tuple(Picture(material.pictures(path), path, ()) for path in spread))
    text = f"Training images. In evaluation, {mistaken:,} of {number:,} taken for the other class."
    return name, (Text(text, "soft"), pictures)


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

    sets = any(row["covered"] for row in shown.of_classes.values())

    def row(name: str) -> tuple[Cell, ...]:
        taken_for = ", ".join(f"{other} {n}" for other, n in taken.get(name, Counter()).most_common(3))
        more = _measured(shown.of_classes[name], sets) if name in shown.of_classes else ()
        return name, Interval(wilson(right[name], total[name])), *more, taken_for or "–", total[name], learnt[name]

    further = ("precision", "AUROC", *(["set coverage"] if sets else [])) if shown.of_classes else ()
    header = ("class", "recall", *further, "mistaken for", "images", "training images")
    text = "Sorted by the upper end of the interval, so that a class with few images does not come first by bad luck."
    blocks: list[Block] = [Text(text), Table(header, tuple(map(row, worst)))] if worst else [Text("No mistakes.")]
    if len(order) > len(worst):
        named = {name: at for at, name in enumerate(material.classes)}
        listed = sorted(order[:MOST_CLASSES], key=lambda name: named.get(name, -1))
        table = Table(header, tuple(map(row, listed)))
        if len(listed) == len(order):
            blocks.append(Details(f"All {len(order):,} classes", (table,)))
        else:
            table_file = "classes.csv" if shown.of_classes else "predictions.csv"
            rest = Text(f"{material.run.evaluation(shown.name) / table_file} has all of them.", "soft")
            blocks.append(Details(f"The {len(listed):,} worst of {len(order):,} classes", (rest, table)))
    return Section("classes", "The worst classes", tuple(blocks))


def _measured(row: Mapping[str, str], sets: bool) -> tuple[Cell, ...]:
    """Precision, area under the ROC curve and coverage of a class, from classes.csv."""

    def share(name: str) -> str:
        return _percent(float(row[name])) if row[name] else "–"

    covered = f"{share('covered')} ▼ too low" if row["below_band"] == "1" else share("covered")
    return share("precision"), row["auroc"][:5] or "–", *([covered] if sets else [])


def slices(material: Material) -> Section | None:
    """Accuracy by everything that the data says about its images."""
    if (shown := material.shown) is None:
        return None
    found = accuracy_by_slice(shown.correct, groupings(material, shown))
    if not found:
        return None
    num = sum(len(slicing.slices) + slicing.num_more for slicing in found)
    marked = [(s.name, one) for s in found for one in s.slices if one.differs]
    summary = "; ".join(f"{name} {one.value} is {_word(one)}" for name, one in marked[:6])
    text = (
        f"{counted(num, 'slice')} {'was' if num == 1 else 'were'} compared with the other images. ▲ and ▼ mark "
        "differences larger than chance would explain (Fisher's exact test, corrected for all comparisons, at the "
        f"{_percent(LEVEL)} level). {f'Marked: {summary}.' if summary else 'No slice is marked.'}"
    )
    blocks: list[Block] = [Text(text)]
    if material.catalog is None:
        blocks.append(Text(f"There are no slices by attribute, box or group here: {material.lost}", "warn"))
    blocks.append(Columns("", tuple((slicing.name, _slicing(slicing)) for slicing in found)))
    blocks.append(Text("A difference is not a cause: a slice may simply contain harder classes.", "soft"))
    return Section("slices", "Where it does better and worse", tuple(blocks))


def _slicing(slicing: Slicing) -> tuple[Block, ...]:
    table = Table(("", "images", "accuracy"), tuple(_slice(one) for one in slicing.slices))
    notes = []
    if slicing.num_more:
        notes.append(f"Not shown: {counted(slicing.num_more, 'slice')} with a smaller difference.")
    if slicing.num_small:
        notes.append(f"Left out: {counted(slicing.num_small, 'slice')} with fewer than {LEAST} images.")
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
    number = ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"  # what is not certain must not read "100 %"
    return f"{number}\u00a0%"  # the sign stays with its number
