"""What commands answer, on standard output."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

    from fieldmark.commands.evaluate import Evaluation
    from fieldmark.commands.listener import Listener
    from fieldmark.commands.parts import Parts
    from fieldmark.commands.predict import Skipped
    from fieldmark.comparison import Leaderboard
    from fieldmark.data.catalog import Catalog
    from fieldmark.data.findings import Audit, Finding
    from fieldmark.datasets import Dataset
    from fieldmark.evaluation.background import Reliance
    from fieldmark.evaluation.trust import Trust
    from fieldmark.evaluation.verdict import Verdict
    from fieldmark.explaining.explanation import Explanation

__all__ = [
    "Format",
    "print_audit",
    "print_datasets",
    "print_evaluation",
    "print_explanation",
    "print_leaderboard",
    "print_parts",
    "print_recipes",
    "print_validation",
    "printed",
]

Format = Literal["table", "csv", "json"]
_IN_A_FILE = 160
"""Columns of what is not printed to a terminal."""


def printed(results: Iterator[Verdict | Skipped], format: Format) -> Iterator[Verdict | Skipped]:
    """Print verdicts to standard output as they come; pass everything on."""
    from fieldmark.evaluation.verdict import Verdict

    show = {"table": _table_printer, "csv": _csv_printer, "json": _json_printer}[format]()
    for result in results:
        if isinstance(result, Verdict):
            show(result)
        yield result


def _json_printer() -> Callable[[Verdict], None]:
    return lambda verdict: print(json.dumps(verdict.as_dict(), ensure_ascii=False), flush=True)


def _csv_printer() -> Callable[[Verdict], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    header: list[str] = []

    def show(verdict: Verdict) -> None:
        values = verdict.as_dict()
        values["candidates"] = "; ".join(f"{c.label} {c.probability:.4f}" for c in verdict.candidates)
        if "possible" in values:
            values["possible"] = "; ".join(verdict.possible or ())
        for name, one in values.pop("attributes", {}).items():
            values |= {f"attribute.{name}": one["value"], f"attribute.{name}.probability": one["probability"]}
        if not header:
            header.extend(values)
            writer.writerow(header)
        writer.writerow(values.values())

    return show


def _table_printer() -> Callable[[Verdict], None]:
    """Lines as they come, file names cut at the left: their ends tell them apart. A file has room for more of them."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _IN_A_FILE
    width = max(20, min(48, console.width // 3))

    def show(verdict: Verdict) -> None:
        path = verdict.path if len(verdict.path) <= width else "…" + verdict.path[-width + 1 :]
        sure, name = _said(verdict)
        line = f"{path:<{width}}  {sure:>7}  {name}"
        outside = "" if verdict.outside is None else f"  [{_percent(verdict.outside)} outside the checklist]"
        others, room = _others(verdict), console.width - len(line) - len(outside) - 4
        while others and len(", ".join(others)) > room:
            last = others.pop()
            if not others and verdict.level == "none" and room > 8:
                others = [last[: room - 1] + "…"]
        rest = f"  ({', '.join(others)})" if others else ""
        console.print(f"{escape(line)}[dim]{escape(rest)}{escape(outside)}[/dim]", soft_wrap=True)
        if verdict.attributes:
            told = (f"{name} {one.value} {_percent(one.probability)}" for name, one in verdict.attributes.items())
            console.print(f"    [dim]{escape(', '.join(told))}[/dim]")

    return show


def _said(verdict: Verdict) -> tuple[str, str]:
    """How sure, and of what."""
    if verdict.level is None or verdict.name == verdict.label:
        return _percent(verdict.probability), verdict.label
    if verdict.certainty is None:
        return "– %", "none"
    return _percent(verdict.certainty), f"{verdict.name} [{verdict.level}]"


def _others(verdict: Verdict) -> list[str]:
    """Why there is no name, and what else it may be."""
    reason = [verdict.reason] if verdict.level == "none" else []
    rivals = [c for c in verdict.candidates if c.label != verdict.name]
    if verdict.possible is None:
        rivals = [c for c in rivals if c.probability > 0.01]
    else:
        rivals = [c for c in rivals if c.label in verdict.possible]
    return reason + [f"{c.label} {_percent(c.probability)}" for c in rivals[:2]]


def print_explanation(found: Explanation) -> None:
    """The answer, its regions and what exchanging them does."""
    from rich.console import Console
    from rich.table import Table

    from fieldmark.explaining.explanation import odds

    console = Console(highlight=False)
    (p, q), now = found.probabilities, odds(found.margin)
    first = f"{found.first} {_percent(p)}, not {found.second} {_percent(q)}: odds {now}"
    console.print(first, markup=False, soft_wrap=True)
    table = Table("region", "share", f"with that of {found.second}", f"of other {found.first}")
    for one in found.regions:
        after = ["–" if exchange is None else odds(exchange.margin) for exchange in (one.as_second, one.as_first)]
        table.add_row(one.title, f"{100 * one.region.share:.0f} %", *after)
    if found.regions:
        console.print(table)
        if found.whole:
            both = odds(found.whole.exchange.margin)
            console.print(f"The first of them and the mark of {found.second} as well: {both}", markup=False)
        if found.doubt:
            console.print(f"{found.doubt}.", markup=False, soft_wrap=True)
    else:
        console.print(f"Nothing in the picture speaks for {found.first} against {found.second}.", markup=False)
    for note in found.notes:
        console.print(f"note: {note}", markup=False)


def print_validation(folder: Path, listener: Listener) -> None:
    from fieldmark.storage import read_json

    for part in ("val", "crossfit"):
        path = folder / "evaluation" / part / "scores.json"
        if path.is_file():
            top1 = read_json(path)["top1"]
            where = "Validation" if part == "val" else "Out-of-fold"
            interval = f"{100 * top1['low']:.1f}–{100 * top1['high']:.1f}"
            listener.note(f"{where} top-1: {_percent(top1['value'])} (95 % interval {interval})")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


_TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class_accuracy": "mean per-class accuracy",
    "nll": "negative log-likelihood",
    "calibration_error": "calibration error",
    "quadratic_kappa": "quadratic weighted kappa",
    "grade_error": "mean error in grades",
    "tree_distance": "mean distance in the tree",
    "mistake_severity": "… of mistakes",
}


def _trust_table(trust: Trust) -> Table:
    """What the verdicts promise beside what was found."""
    from rich.table import Table

    table = Table("verdicts", "found", "to compare", title=f"Judged by {trust.num_judged:,} {trust.source} images")
    before, after = trust.calibration_error
    mean, most = trust.if_calibrated
    table.add_row("calibration error, debiased", _percent(after), f"before {_percent(before)}")
    table.add_row("", "", f"if perfect {_percent(mean)}, up to {_percent(most)}")
    table.add_row("negative log-likelihood", f"{trust.nll[1]:.3f}", f"before {trust.nll[0]:.3f}")
    if trust.covered is not None and trust.coverage_interval is not None:
        low, high = (100 * share for share in trust.coverage_interval)
        # the folds' models, which learnt from fewer images, are not the one that answers
        caveat = ", not guaranteed" if trust.source == "out-of-fold" else ""
        asked = f"{100 * trust.coverage:g} % asked: {low:.1f}–{high:.1f}{caveat}"
        table.add_row("coverage of the sets", _percent(trust.covered), asked)
        table.add_row("mean size of a set", f"{trust.set_size:.2f}", "")
    asked = f"{100 * trust.accuracy:g} % asked" if trust.promised else f"{100 * trust.accuracy:g} % cannot be promised"
    if trust.right:
        value, _, interval = str(trust.right).partition(" (")
        table.add_row("given answers that are right", value, f"({interval}, {asked}")
    titles = {"unsure": "not sure enough for a name", "unknown": "not like the known images"}
    for name, share in trust.shares.items():
        table.add_row(titles.get(name, f"answered with the {name}"), _percent(share), "")
    own, softmax = trust.area
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
    where = "All parts" if result.part == "all" else f"The {result.part} part"
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
    if result.trust:
        console.print(_trust_table(result.trust))
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
    from fieldmark.reporting.training import duration

    console = Console(highlight=False)
    table = Table(title=f"{board.num_images:,} images of the {board.part} part, {len(board.seeds)} seeds")
    table.add_column("recipe", overflow="fold")
    table.add_column("right", justify="right", no_wrap=True)
    table.add_column(f"against {board.baseline}", overflow="fold")
    table.add_column("spread", justify="right")
    table.add_column("NLL", justify="right", no_wrap=True)
    table.add_column("time", justify="right")
    for one in board.standings:
        if one.accuracy is None or one.nll is None:
            table.add_row(escape(one.recipe), "–")
            continue
        seeds = f" ({len(one.seeds)} of {len(board.seeds)} seeds)" if len(one.seeds) < len(board.seeds) else ""
        table.add_row(
            escape(one.recipe) + seeds,
            _percent(one.accuracy.value),
            f"{points(one.gain)} {one.verdict}" if one.gain else "",
            "–" if one.spread is None else f"{100 * one.spread:.1f}",
            f"{one.nll.value:.3f}",
            duration(one.seconds or 0),
        )
    console.print(table)
    if board.compared:
        console.print("Percentage points, with 95 % intervals over images; spread is that over seeds.")
        console.print(chance_in_words(board)[:1].upper() + chance_in_words(board)[1:])
    for notice in board.notices:
        console.print(escape(notice), soft_wrap=True)
    page = "index-test.html" if board.part == "test" else "index.html"
    console.print(f"Written to {board.folder}; its page is {board.folder and board.folder / page}", soft_wrap=True)


def print_parts(found: Parts) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    points = found.catalog.keypoints
    assert points is not None
    match_of = {match.part: match for match in found.matches}
    table = Table("part", title=f"{len(found.names)} parts of {len(found.catalog):,} images")
    table.add_column("seen in", justify="right")
    if found.matches:
        table.add_column("key point")
        table.add_column("distance", justify="right")
        table.add_column("at its mean place", justify="right")
    for m, (name, share) in enumerate(zip(found.names, points[..., 2].mean(axis=0).tolist(), strict=True)):
        cells: list[str] = []
        if match := match_of.get(m):
            cells = [escape(match.keypoint), _percent(match.distance), _percent(match.constant)]
        table.add_row(escape(name), _percent(share), *cells)
    console.print(table)
    if found.matches:
        mean = sum(match.distance for match in found.matches) / len(found.matches)
        console.print(
            f"Mean distance {_percent(mean)} of the object's size, on {found.num_measured:,} images.", soft_wrap=True
        )
    console.print(f"Written to {found.table} and {found.page}", markup=False, soft_wrap=True)


def print_recipes() -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fieldmark.recipe import about_recipe, recipe_names

    table = Table("recipe", "", box=SIMPLE, show_header=False)
    table.columns[0].no_wrap = True
    for name in recipe_names():
        table.add_row(f"[bold]{name}[/bold]", escape(about_recipe(name)))
    console = Console(highlight=False)
    console.print(table)
    console.print("fieldmark recipes NAME prints one whole; train, compare and preview take it with --recipe(s).")


def print_datasets(root: Path | None, format: Literal["table", "json"]) -> None:
    from fieldmark.datasets import DATASETS, copy_of
    from fieldmark.errors import DataError

    listed: list[tuple[Dataset, Path | None, str]] = []
    for dataset in DATASETS.values():
        try:
            listed.append((dataset, copy_of(dataset, root), ""))
        except DataError as error:
            listed.append((dataset, None, str(error)))
    if format == "json":
        print(json.dumps([d.as_dict() | {"copy": c and str(c), "problem": p} for d, c, p in listed], indent=2))
    else:
        _print_table_of_datasets(listed)


def _print_table_of_datasets(listed: list[tuple[Dataset, Path | None, str]]) -> None:
    """What one types is never cut; the rest is folded beside it."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("data set", box=SIMPLE, padding=(0, 1, 1, 0))
    table.columns[0].no_wrap = True
    for heading in ("images", "classes", "download"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for dataset, copy, problem in listed:
        along = f"\ncomes with {dataset.annotations}" if dataset.annotations else ""
        where = f"[green]copy: {escape(str(copy))}[/green]" if copy else f"copy: {'incomplete' if problem else 'none'}"
        table.add_row(
            f"[bold]{dataset.name}[/bold]",
            f"{dataset.num_images:,}",
            f"{dataset.num_classes:,}",
            f"{dataset.download_gb:g} GB" if dataset.torchvision else f"{dataset.download_gb:g} GB*",
            f"{dataset.title}{along}\nterms: {dataset.terms}\n{where}",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print("* is not downloaded by Fieldmark. fieldmark train NAME --root FOLDER takes the copy in FOLDER.")
    for problem in filter(None, (problem for _, _, problem in listed)):
        console.print(escape(problem), soft_wrap=True)


def print_audit(found: Audit, folder: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    width = max(24, console.width // 2 - 8)
    if found.findings:
        table = Table("", "found", "such as")
        for finding in found:
            spoils = finding.severity == "spoils"
            title = escape(finding.title)
            mark, title = ("[red]✗[/red]", f"[bold]{title}[/bold]") if spoils else ("", title)
            table.add_row(mark, title, escape(_example(found.catalog, finding, width)))
        console.print(table)
    if found.spoils:
        console.print("✗ A measurement on this data would be wrong; the page says why and what to do.")
    else:
        console.print("Nothing here would spoil a measurement.")
    console.print(f"Written to {folder / 'index.html'}", markup=False, soft_wrap=True)


def _example(catalog: Catalog, finding: Finding, width: int) -> str:
    """The first case: its first images, cut at the left, and its note if that is short."""
    case = finding.cases[0]
    paths = [catalog.paths[row] for row in case.rows[:2]]
    lines = [path if len(path) <= width else "…" + path[-width + 1 :] for path in paths]
    if len(case.rows) > 2:
        lines[-1] += " …"
    if case.note and finding.kind != "reading" and not any(path in case.note for path in paths):
        lines.append(case.note)
    return "\n".join(lines)
