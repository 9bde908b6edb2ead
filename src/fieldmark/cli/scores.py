"""Tables of scores are printed to standard output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.cli.answers import percent
from fieldmark.cli.terminal import console_of, literal
from fieldmark.core.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from fieldmark.comparison import Leaderboard
    from fieldmark.core.listener import Listener
    from fieldmark.evaluation.background import Reliance
    from fieldmark.evaluation.per_class import ClassScore, Detection
    from fieldmark.evaluation.verdict_scores import VerdictScores
    from fieldmark.runs.record import Evaluation

__all__ = ["print_evaluation", "print_leaderboard", "print_validation"]

_NUM_WORST = 10


def print_validation(folder: Path, listener: Listener) -> None:
    from fieldmark.evaluation.metrics import Score
    from fieldmark.runs.record import read_scores

    for split in ("val", "crossfit"):
        if (folder / "evaluation" / split / "scores.json").is_file():
            top1 = Score.of(read_scores(folder / "evaluation" / split)["top1"])
            where = "Validation" if split == "val" else "Out-of-fold"
            interval = f"{100 * top1.low:.1f}–{100 * top1.high:.1f}"
            listener.note(f"{where} top-1: {percent(top1.value)} (95 % interval {interval})")


def _verdicts_table(verdict_scores: VerdictScores, num_images: int) -> Table:
    """The measured quality of verdicts beside what they promise."""
    from rich.table import Table

    calibrated_on = counted(verdict_scores.num_calibrated, f"{verdict_scores.source} image")
    title = f"Verdicts on {counted(num_images, 'image')}, calibrated on {calibrated_on}"
    table = Table("verdicts", "value", "for comparison", title=title)
    before, after = verdict_scores.calibration_error
    mean, most = verdict_scores.if_calibrated
    table.add_row("calibration error, debiased (L2)", percent(after), f"uncalibrated {percent(before)}")
    table.add_row("", "", f"if perfect {percent(mean)}, up to {percent(most)}")
    raw, calibrated = verdict_scores.nll
    table.add_row("negative log-likelihood", f"{calibrated:.3f}", f"uncalibrated {raw:.3f}")
    if verdict_scores.covered is not None and verdict_scores.coverage_interval is not None:
        low, high = (100 * share for share in verdict_scores.coverage_interval)
        # the models of the folds were trained on fewer images, and are not the one that answers
        caveat = ", not guaranteed" if verdict_scores.source == "out-of-fold" else ""
        if verdict_scores.set_size is not None and verdict_scores.set_size < 1.05:
            caveat += "; never below top-1, since no set is empty"
        asked = f"{100 * verdict_scores.coverage:g} % requested ({low:.1f}–{high:.1f}){caveat}"
        table.add_row("coverage of the sets", percent(verdict_scores.covered), asked)
        table.add_row("mean set size", f"{verdict_scores.set_size:.2f}", "")
    promised = verdict_scores.promised
    if promised is None:
        table.add_row("accuracy of the names given", "–", "no accuracy can be promised, so no name is given")
    elif verdict_scores.right:
        value, _, interval = str(verdict_scores.right).partition(" (")
        table.add_row("accuracy of the names given", value, f"{100 * promised:g} % promised ({interval}")
    else:
        table.add_row("accuracy of the names given", "–", f"{100 * promised:g} % promised, no name given")
    if others := _vouched_for(verdict_scores):
        table.add_row("share of calibration images named, by promise", "", others)
    titles = {"unsure": "not vouched for: too uncertain", "unknown": "no answer: unlike known classes"}
    for name, share in verdict_scores.shares.items():
        table.add_row(literal(titles.get(name, f"vouched for: the {name}")), percent(share), "")
    own, softmax = verdict_scores.area
    table.add_row("area under risk–coverage", f"{own:.3f}", f"maximum softmax {softmax:.3f}")
    return table


def _vouched_for(verdict_scores: VerdictScores) -> str:
    """The share of the calibration images that get a name, at each accuracy that may be promised."""
    shares = ((float(accuracy), share) for accuracy, share in verdict_scores.promises.items())
    return "; ".join(f"{100 * accuracy:g} %: {100 * share:.0f} %" for accuracy, share in shares if share is not None)


def _classes_table(classes: Sequence[ClassScore]) -> Table:
    """The classes with the lowest recall."""
    from rich.table import Table

    from fieldmark.evaluation.per_class import worst

    listed = worst(classes, _NUM_WORST)
    title = (
        f"The {_NUM_WORST} worst of {len(classes):,} classes" if len(classes) > _NUM_WORST else "Classes, worst first"
    )
    sets = any(one.covered for one in listed)
    table = Table(title=title)
    for name in ("class", "images", "recall", "precision", "AUROC", *(["set coverage"] if sets else [])):
        table.add_column(name, overflow="fold")
    for one in listed:
        covered = "" if one.covered is None else percent(one.covered.value)
        covered += " too low" if one.is_below else " too high" if one.is_above else ""
        table.add_row(
            literal(one.name),
            f"{one.num_images:,}",
            f"{percent(one.recall.value)}\n{100 * one.recall.low:.0f}–{100 * one.recall.high:.0f}",
            "–" if one.precision is None else percent(one.precision.value),
            "–" if one.auroc is None else f"{one.auroc:.3f}",
            *([covered] if sets else []),
        )
    return table


def _interest_table(found: Detection) -> Table:
    from rich.table import Table

    asked = f"found from {percent(found.threshold)} on, for a sensitivity of {100 * found.asked:g} %"
    table = Table("class of interest", "value", "95 % interval", title=literal(f"{found.name}: {asked}"))
    for name in ("sensitivity", "specificity"):
        value, _, interval = str(getattr(found, name)).partition(" (")
        table.add_row(name, value, interval.removesuffix(")"))
    area = found.auroc
    table.add_row("area under ROC", f"{area.value:.3f}", f"{area.low:.3f}–{area.high:.3f}")
    return table


def _reliance_table(found: Reliance) -> Table:
    from rich.table import Table

    from fieldmark.evaluation.background import VIEWS

    title = f"Background reliance on {counted(found.num_images, 'image')}, object located by {found.known_by}"
    table = Table("object shown", "accuracy", "95 % interval", title=title)
    for name, title in VIEWS.items():
        value, _, interval = str(found.accuracy[name]).partition(" (")
        table.add_row(title, value, interval.removesuffix(")"))
    return table


def print_evaluation(result: Evaluation) -> None:
    from rich.table import Table

    from fieldmark.runs.facts import SCORE_TITLES

    console = console_of()
    where = "All splits" if result.split == "all" else f"The {result.split} split"
    table = Table("score", "value", "95 % interval", title=f"{where}, {counted(result.num_images, 'image')}")
    for name, score in result.scores.items():
        text = str(score)
        value, _, interval = text.partition(" (")
        table.add_row(SCORE_TITLES.get(name, name), value, interval.removesuffix(")"))
    console.print(table)
    if result.attributes:
        attributes = Table("attribute", "balanced accuracy", "95 % interval", "images")
        for name, one in result.attributes.items():
            value, _, interval = str(one.balanced_accuracy).partition(" (")
            attributes.add_row(literal(name), value, interval.removesuffix(")"), f"{one.num_images:,}")
        console.print(attributes)
    if len(result.classes) > 1:
        console.print(_classes_table(result.classes))
    for found in result.of_interest:
        console.print(_interest_table(found))
    if result.verdicts:
        console.print(_verdicts_table(result.verdicts, result.num_images))
    if result.reliance:
        console.print(_reliance_table(result.reliance))
        console.print(literal(f"{result.reliance.advice}."))
    if result.confused:
        pairs = Table("most confused", "mistakes")
        for pair in result.confused[:5]:
            names = f"{literal(pair.first)} ↔ {literal(pair.second)}"
            pairs.add_row(names, f"{pair.mistakes:,} of {pair.num_first + pair.num_second:,}")
        console.print(pairs)
    if result.looks is not None:
        times = "once" if result.looks == 1 else counted(result.looks, "time")
        console.print(f"This test split has now been scored {times} on this machine.")
    console.print(literal(f"Written to {result.folder}"), soft_wrap=True)


def print_leaderboard(board: Leaderboard) -> None:
    from rich.table import Table

    from fieldmark.comparison.composition import chance_in_words, points
    from fieldmark.comparison.leaderboard import TITLES
    from fieldmark.core.wording import duration

    console = console_of()
    where = TITLES[board.split]
    title = f"{where.capitalize()}, {counted(board.num_images, 'image')}, {counted(len(board.seeds), 'seed')}"
    table = Table(title=title)
    table.add_column("recipe", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column(literal(f"difference from {board.baseline}"), overflow="fold")
    table.add_column("spread", justify="right")
    table.add_column("NLL", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("memory", justify="right")
    for one in board.standings:
        if one.accuracy is None or one.nll is None:
            table.add_row(literal(one.recipe), "–")
            continue
        seeds = f" ({len(one.seeds)} of {len(board.seeds)} seeds)" if len(one.seeds) < len(board.seeds) else ""
        table.add_row(
            literal(one.recipe) + seeds,
            percent(one.accuracy.value),
            f"{points(one.gain)} {literal(one.verdict)}" if one.gain else "",
            "–" if one.spread is None else f"{100 * one.spread:.1f}",
            f"{one.nll.value:.3f}",
            duration(one.seconds or 0),
            f"{max((one.memory or {'': 0}).values()) / 1e9:.1f} GB",
        )
    if any(one.accuracy for one in board.standings):
        console.print(table)
    else:
        console.print("No run has finished, so there is nothing to compare.")
    if board.compared:
        console.print("Differences are in percentage points, with 95 % intervals over images. Spread is over seeds.")
        console.print(literal(chance_in_words(board)))
    for notice in board.notices:
        console.print(literal(notice), soft_wrap=True)
    page = "index-test.html" if board.split == "test" else "index.html"
    console.print(literal(f"Written to {board.folder}. Open {board.folder and board.folder / page}"), soft_wrap=True)
