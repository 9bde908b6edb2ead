"""What commands answer, on standard output."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fieldmark.commands.evaluate import Evaluation
    from fieldmark.commands.listener import Listener
    from fieldmark.commands.predict import Skipped
    from fieldmark.data.catalog import Catalog
    from fieldmark.data.findings import Audit, Finding
    from fieldmark.evaluation.verdict import Verdict

__all__ = ["Format", "print_audit", "print_evaluation", "print_validation", "printed"]

Format = Literal["table", "csv", "json"]


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
        if not header:
            header.extend(values)
            writer.writerow(header)
        writer.writerow(values.values())

    return show


def _table_printer() -> Callable[[Verdict], None]:
    """Lines as they come, file names cut at the left: their ends tell them apart."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    width = max(20, min(48, console.width // 3))

    def show(verdict: Verdict) -> None:
        path = verdict.path if len(verdict.path) <= width else "…" + verdict.path[-width + 1 :]
        line = f"{path:<{width}}  {_percent(verdict.probability):>7}  {verdict.label}"
        outside = "" if verdict.outside is None else f"  [{_percent(verdict.outside)} outside the checklist]"
        others = [f"{c.label} {_percent(c.probability)}" for c in verdict.candidates[1:3] if c.probability > 0.01]
        while others and len(line) + len(outside) + len(", ".join(others)) + 4 > console.width:
            others.pop()
        rest = f"  ({', '.join(others)})" if others else ""
        console.print(f"{escape(line)}[dim]{escape(rest)}{escape(outside)}[/dim]", soft_wrap=True)

    return show


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
}


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
