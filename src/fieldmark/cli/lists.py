"""What there is and what was found in it, on standard output: parts, recipes, data sets, defects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fieldmark.cli.answers import percent

if TYPE_CHECKING:
    from fieldmark.answering.parts.finding import Parts
    from fieldmark.data.auditing.findings import Audit, Finding
    from fieldmark.data.catalog import Catalog
    from fieldmark.data.sets import Dataset

__all__ = ["print_audit", "print_datasets", "print_parts", "print_recipes"]


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
            cells = [escape(match.keypoint), percent(match.distance), percent(match.constant)]
        table.add_row(escape(name), percent(share), *cells)
    console.print(table)
    if found.matches:
        mean = sum(match.distance for match in found.matches) / len(found.matches)
        console.print(
            f"Mean distance {percent(mean)} of the object's size, on {found.num_measured:,} images.", soft_wrap=True
        )
    console.print(f"Written to {found.table} and {found.page}", markup=False, soft_wrap=True)


def print_recipes() -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fieldmark.core.recipe import about_recipe, recipe_names

    table = Table("recipe", "", box=SIMPLE, show_header=False)
    table.columns[0].no_wrap = True
    for name in recipe_names():
        table.add_row(f"[bold]{name}[/bold]", escape(about_recipe(name)))
    console = Console(highlight=False)
    console.print(table)
    console.print("fieldmark recipes NAME prints one whole; train, compare and preview take it with --recipe(s).")
    console.print('A TOML file of your own: base = "finetune", and what it does otherwise.', markup=False)


def print_datasets(root: Path | None, format: Literal["table", "json"]) -> None:
    from fieldmark.core.errors import DataError
    from fieldmark.data.sets import DATASETS, copy_of

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
        few = "; read intervals, since parts are small" if found.is_small else ""
        console.print(f"Nothing here would spoil a measurement{few}.")
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
