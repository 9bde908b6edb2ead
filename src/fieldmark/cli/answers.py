"""Verdicts, explanations and look-alikes are printed to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from fieldmark.cli.terminal import console_of, literal
from fieldmark.core.wording import shown

if TYPE_CHECKING:
    from fieldmark.answering.explaining.explanation import Explanation
    from fieldmark.answering.things import Skipped
    from fieldmark.evaluation.verdict import Verdict
    from fieldmark.gallery.finding import Found

__all__ = ["Format", "percent", "print_explanation", "print_found", "printed"]


Format = Literal["table", "csv", "json"]
_IN_A_FILE = 160
"""The width in columns if the output is not a terminal."""


def printed(results: Iterator[Verdict | Skipped], format: Format) -> Iterator[Verdict | Skipped]:
    """Print verdicts to standard output as they come, and pass everything on."""
    from fieldmark.evaluation.verdict import Verdict

    show = {"table": _table_printer, "csv": _csv_printer, "json": _json_printer}[format]()
    for result in results:
        if isinstance(result, Verdict):
            show(result)
        yield result


def _json_printer() -> Callable[[Verdict], None]:
    from fieldmark.core.storage import as_json

    return lambda verdict: print(as_json(verdict.as_dict(), ascii=True), flush=True)


def _csv_printer() -> Callable[[Verdict], None]:
    from fieldmark.core.storage import csv_line
    from fieldmark.exporting.results.tables import flat

    header: list[str] = []

    def show(verdict: Verdict) -> None:
        values = flat(verdict)
        if not header:
            header.extend(values)
            sys.stdout.write(csv_line(header))
        sys.stdout.write(csv_line(values.values()))

    return show


def _table_printer() -> Callable[[Verdict], None]:
    """A line per verdict, with long file names cut at the left, since their ends differ. A file gets longer lines."""

    console = console_of()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _IN_A_FILE
    width = max(20, min(48, console.width // 3))

    def show(verdict: Verdict) -> None:
        path = shown(verdict.path)
        path = path if len(path) <= width else "…" + path[-width + 1 :]
        line = f"{path:<{width}}  {_sure(verdict):>7}  {verdict.said}"
        outside = "" if verdict.outside is None else f"  [{percent(verdict.outside)} outside the checklist]"
        others, room = _others(verdict), console.width - len(line) - len(outside) - 4
        while others and len(", ".join(others)) > room:
            last = others.pop()
            if not others and verdict.level == "none" and room > 8:
                others = [last[: room - 1] + "…"]
        rest = f"  ({', '.join(others)})" if others else ""
        console.print(f"{literal(line)}[dim]{literal(rest)}{literal(outside)}[/dim]", soft_wrap=True)
        if verdict.attributes:
            values = (f"{name} {one.value} {percent(one.probability)}" for name, one in verdict.attributes.items())
            console.print(f"    [dim]{literal(', '.join(values))}[/dim]")

    return show


def _sure(verdict: Verdict) -> str:
    return "–" if verdict.sureness is None else percent(verdict.sureness)


def _others(verdict: Verdict) -> list[str]:
    """The reason if no class is vouched for, and the other classes that are possible."""
    from fieldmark.evaluation.verdict import NO_PROMISE

    if verdict.familiar is False:  # what its candidates' probabilities add up to is not the picture
        return [verdict.reason, f"looks most like {verdict.label}"]
    rivals = [c for c in verdict.candidates if c.label not in (verdict.name, None if verdict.name else verdict.label)]
    if verdict.possible is None:
        rivals = [c for c in rivals if c.probability > 0.01]
    else:
        rivals = [c for c in rivals if c.label in verdict.possible]
    named = [f"{c.label} {percent(c.probability)}" for c in rivals[:2]]
    told = verdict.level != "none" or verdict.reason == NO_PROMISE  # which a note above has explained
    return named if told else [verdict.reason, *named]


def print_explanation(found: Explanation) -> None:
    """Print the answer, its regions and the effect of replacing them."""
    from rich.table import Table

    from fieldmark.answering.explaining.explanation import odds

    console = console_of()
    (p, q), now = found.probabilities, odds(found.margin)
    if found.verdict.name != found.verdict.label:
        because = f" ({found.verdict.reason})" if found.verdict.reason else ""
        console.print(literal(f"Verdict: {_sure(found.verdict)}  {found.verdict.said}{because}"), soft_wrap=True)
    if found.verdict.familiar is False:
        first = f"{found.first} rather than {found.second}: odds {now}"
    else:
        first = f"{found.first} {percent(p)}, not {found.second} {percent(q)}: odds {now}"
    console.print(literal(first), soft_wrap=True)
    rivals = (f"odds with that of {found.second}", f"odds with that of other {found.first}")
    table = Table("region", "share", *map(literal, rivals))
    for one in found.regions:
        after = ["–" if exchange is None else odds(exchange.margin) for exchange in (one.as_second, one.as_first)]
        table.add_row(literal(one.title), f"{100 * one.region.share:.0f} %", *after)
    if found.regions:
        console.print(table)
        if found.whole:
            both = odds(found.whole.exchange.margin)
            console.print(literal(f"Odds with the first region replaced and {found.second}'s mark added: {both}"))
        if found.doubt:
            console.print(literal(f"{found.doubt}."), soft_wrap=True)
    else:
        console.print(literal(f"Nothing in the picture favours {found.first} over {found.second}."))
    for note in found.notes:
        console.print(literal(f"note: {note}"))


def print_found(found: Sequence[Found], format: Literal["table", "json"]) -> None:
    """Print the neighbours of each picture: a table, or an object on a line of its own."""
    from rich.box import SIMPLE
    from rich.table import Table

    from fieldmark.core.storage import as_json

    if format == "json":
        for one in found:
            print(as_json(one.as_dict(), ascii=True))
        return
    console = console_of()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _IN_A_FILE
    for one in found:
        known = [one.picture.label, one.picture.group and f"group {one.picture.group}"]
        said = ", ".join(filter(None, known))
        console.print(literal(f"{one.path} ({said})" if said else one.path), soft_wrap=True)
        if not one.hits:
            console.print("  nothing in the gallery is what was asked for")
            continue
        groups = any(hit.entry.group for hit in one.hits)
        table = Table(box=SIMPLE, pad_edge=False)
        table.add_column("alike", justify="right", no_wrap=True)
        table.add_column("label")
        if groups:
            table.add_column("group")
        table.add_column("photograph", overflow="fold", ratio=1)
        for hit in one.hits:
            mark = "  [yellow]the same file[/yellow]" if one.is_same(hit) else ""
            cells = [literal(hit.entry.group or "")] if groups else []
            path = literal(_short(hit.entry.path)) + mark
            table.add_row(f"{hit.similarity:.3f}", literal(hit.entry.label or "–"), *cells, path)
        console.print(table)


def _short(path: str) -> str:
    """A path as seen from the working folder, if that is shorter."""
    try:
        return min(os.path.relpath(path), path, key=len)
    except ValueError:  # another drive
        return path


def percent(share: float) -> str:
    """A share with one digit: "97.2 %"; what is not certain is never shown as "100.0 %"."""
    return ">99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"
