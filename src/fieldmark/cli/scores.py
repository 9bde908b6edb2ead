"""How good something is, on standard output: tables of scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.cli.answers import percent

if TYPE_CHECKING:
    from rich.table import Table

    from fieldmark.comparison import Leaderboard
    from fieldmark.core.listener import Listener
    from fieldmark.evaluation.background import Reliance
    from fieldmark.evaluation.verdict_scores import VerdictScores
    from fieldmark.runs.record import Evaluation

__all__ = ["print_evaluation", "print_leaderboard", "print_validation"]

_TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class_accuracy": "mean per-class accuracy",
    "nll": "negative log-likelihood",
    "calibration_error": "calibration error (L1)",
    "quadratic_kappa": "quadratic weighted kappa",
    "grade_error": "mean error in grades",
    "tree_distance": "mean distance in the tree",
    "mistake_severity": "… of mistakes",
}


def print_validation(folder: Path, listener: Listener) -> None:
    from fieldmark.core.storage import read_json

    for part in ("val", "crossfit"):
        path = folder / "evaluation" / part / "scores.json"
        if path.is_file():
            top1 = read_json(path)["top1"]
            where = "Validation" if part == "val" else "Out-of-fold"
            interval = f"{100 * top1['low']:.1f}–{100 * top1['high']:.1f}"
            listener.note(f"{where} top-1: {percent(top1['value'])} (95 % interval {interval})")


def _verdicts_table(verdict_scores: VerdictScores, num_images: int) -> Table:
    """What the verdicts promise beside what was found."""
    from rich.table import Table

    title = (
        f"Rules of {verdict_scores.num_calibrated:,} {verdict_scores.source} images, held against these {num_images:,}"
    )
    table = Table("verdicts", "found", "to compare", title=title)
    before, after = verdict_scores.calibration_error
    mean, most = verdict_scores.if_calibrated
    table.add_row("calibration error, debiased (L2)", percent(after), f"before {percent(before)}")
    table.add_row("", "", f"if perfect {percent(mean)}, up to {percent(most)}")
    table.add_row("negative log-likelihood", f"{verdict_scores.nll[1]:.3f}", f"before {verdict_scores.nll[0]:.3f}")
    if verdict_scores.covered is not None and verdict_scores.coverage_interval is not None:
        low, high = (100 * share for share in verdict_scores.coverage_interval)
        # the folds' models, which learnt from fewer images, are not the one that answers
        caveat = ", not guaranteed" if verdict_scores.source == "out-of-fold" else ""
        if verdict_scores.set_size is not None and verdict_scores.set_size < 1.05:
            caveat += "; no set is empty, so it is never below top-1"
        asked = f"{100 * verdict_scores.coverage:g} % asked: {low:.1f}–{high:.1f}{caveat}"
        table.add_row("coverage of the sets", percent(verdict_scores.covered), asked)
        table.add_row("mean size of a set", f"{verdict_scores.set_size:.2f}", "")
    asked = (
        f"{100 * verdict_scores.accuracy:g} % asked"
        if verdict_scores.promised
        else f"{100 * verdict_scores.accuracy:g} % cannot be promised"
    )
    if verdict_scores.right:
        value, _, interval = str(verdict_scores.right).partition(" (")
        table.add_row("given answers that are right", value, f"({interval}, {asked}")
    titles = {"unsure": "not sure enough for a name", "unknown": "not like the known images"}
    for name, share in verdict_scores.shares.items():
        table.add_row(titles.get(name, f"answered with the {name}"), percent(share), "")
    own, softmax = verdict_scores.area
    table.add_row("area under risk–coverage", f"{own:.3f}", f"maximum softmax {softmax:.3f}")
    return table


def _reliance_table(found: Reliance) -> Table:
    from rich.table import Table

    from fieldmark.evaluation.background import VIEWS

    table = Table("shown", "right", "95 % interval", title=f"{found.num_images:,} images, object by {found.known_by}")
    for name, title in VIEWS.items():
        value, _, interval = str(found.accuracy[name]).partition(" (")
        table.add_row(title, value, interval.removesuffix(")"))
    return table


def print_evaluation(result: Evaluation) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    where = "All splits" if result.split == "all" else f"The {result.split} split"
    table = Table("score", "value", "95 % interval", title=f"{where}, {result.num_images:,} images")
    for name, score in result.scores.items():
        text = str(score)
        value, _, interval = text.partition(" (")
        table.add_row(_TITLES.get(name, name), value, interval.removesuffix(")"))
    console.print(table)
    if result.attributes:
        told = Table("attribute", "balanced accuracy", "95 % interval", "images")
        for name, one in result.attributes.items():
            value, _, interval = str(one.balanced_accuracy).partition(" (")
            told.add_row(escape(name), value, interval.removesuffix(")"), f"{one.num_images:,}")
        console.print(told)
    if result.verdicts:
        console.print(_verdicts_table(result.verdicts, result.num_images))
    if result.reliance:
        console.print(_reliance_table(result.reliance))
        console.print(f"{result.reliance.advice}.", markup=False)
    if result.confused:
        pairs = Table("most confused", "mistakes")
        for pair in result.confused[:5]:
            names = f"{escape(pair.first)} ↔ {escape(pair.second)}"
            pairs.add_row(names, f"{pair.mistakes:,} of {pair.num_first + pair.num_second:,}")
        console.print(pairs)
    if result.looks is not None:
        times = "once" if result.looks == 1 else f"{result.looks} times"
        console.print(f"This test part has now been scored {times} on this machine.")
    console.print(f"Written to {result.folder}", soft_wrap=True)


def print_leaderboard(board: Leaderboard) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fieldmark.comparison.composition import chance_in_words, points
    from fieldmark.core.wording import counted, duration

    console = Console(highlight=False)
    table = Table(title=f"{board.num_images:,} images of the {board.part} part, {counted(len(board.seeds), 'seed')}")
    table.add_column("recipe", no_wrap=True)
    table.add_column("right", justify="right", no_wrap=True)
    table.add_column(f"against {board.baseline}", overflow="fold")
    table.add_column("spread", justify="right")
    table.add_column("NLL", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("memory", justify="right")
    for one in board.standings:
        if one.accuracy is None or one.nll is None:
            table.add_row(escape(one.recipe), "–")
            continue
        seeds = f" ({len(one.seeds)} of {len(board.seeds)} seeds)" if len(one.seeds) < len(board.seeds) else ""
        table.add_row(
            escape(one.recipe) + seeds,
            percent(one.accuracy.value),
            f"{points(one.gain)} {one.verdict}" if one.gain else "",
            "–" if one.spread is None else f"{100 * one.spread:.1f}",
            f"{one.nll.value:.3f}",
            duration(one.seconds or 0),
            f"{max((one.memory or {'': 0}).values()) / 1e9:.1f} GB",
        )
    console.print(table)
    if board.compared:
        console.print("Percentage points, with 95 % intervals over images; spread is that over seeds.")
        console.print(chance_in_words(board)[:1].upper() + chance_in_words(board)[1:])
    for notice in board.notices:
        console.print(escape(notice), soft_wrap=True)
    page = "index-test.html" if board.part == "test" else "index.html"
    console.print(f"Written to {board.folder}; its page is {board.folder and board.folder / page}", soft_wrap=True)
