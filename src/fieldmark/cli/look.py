"""Commands that draw data, and that show data before training and runs after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldmark.cli.app import DATA, LOOK, Columns, Device, Root, app, columns_of
from fieldmark.cli.early import check_begun_run, check_data, check_recipes, check_run
from fieldmark.cli.lists import print_audit, print_backbones, print_bench, print_datasets, print_parts, print_recipes
from fieldmark.cli.terminal import terminal

__all__ = ["audit", "backbones", "bench", "datasets", "draw", "parts", "preview", "recipes", "report", "shards"]

_SPOILT = 1


@app.command(rich_help_panel=LOOK)
def audit(
    data: Annotated[Path, typer.Argument(help=DATA)],
    root: Root = None,
    columns: Columns = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the page and audit.json; audits/<name of the data> if not given."),
    ] = None,
) -> None:
    """Look for problems in data. Exit status 1 means that scores measured on it would be wrong."""
    check_data(data, root)
    from fieldmark.commands.audit import audit as audit_data

    place = data.resolve()
    out = out or Path("audits") / (place.name if place.is_dir() else place.stem)
    found = audit_data(data, root=root, columns=columns_of(columns), out=out, listener=terminal())
    print_audit(found, out)
    if found.spoils:
        raise SystemExit(_SPOILT)


@app.command(rich_help_panel=LOOK)
def draw(
    dest: Annotated[Path, typer.Argument(help="Output folder.")],
    species: Annotated[int, typer.Option(help="Number of species.")] = 12,
    images: Annotated[int, typer.Option(help="Number of images per species.")] = 60,
    size: Annotated[int, typer.Option(help="Side of an image in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="Another seed draws other species.")] = 0,
    kind: Annotated[
        Literal["species", "stages", "individuals", "attributes", "impostors", "mirror"],
        typer.Option(
            help="What the classes are: species with their own marks, stages of a moult, individuals seen in "
            "bursts, marks that vary freely, impostors with one altered mark, or mirror images."
        ),
    ] = "species",
    habitat: Annotated[
        Literal["free", "tied"],
        typer.Option(help="tied: each species has one habitat, except in the test split."),
    ] = "free",
    noise: Annotated[float, typer.Option(help="Share of training pictures with a wrong label.")] = 0.0,
    duplicates: Annotated[float, typer.Option(help="Share of pictures that occur twice.")] = 0.0,
    unknown: Annotated[int, typer.Option(help="Number of further species, which training does not see.")] = 0,
    long_tail: Annotated[float, typer.Option(help="Ratio of the largest to the smallest class in training.")] = 1.0,
) -> None:
    """Draw a field guide: pictures of invented birds, with everything known about them in a table."""
    from fieldmark.fieldguide import draw as draw_guide

    listener = terminal()
    with listener.progress("Drawing") as tick:
        folder = draw_guide(
            dest,
            species=species,
            images_per_species=images,
            size=size,
            seed=seed,
            habitat=habitat,
            kind=kind,
            noise=noise,
            duplicates=duplicates,
            unknown=unknown,
            long_tail=long_tail,
            progress=tick,
        )
    listener.note(f"Drew {species} species into {folder}. To look at them, open {folder / 'guide.html'}")


@app.command(rich_help_panel=LOOK)
def shards(
    data: Annotated[Path, typer.Argument(help=DATA)],
    out: Annotated[Path, typer.Argument(help="New folder, or the address of one, such as s3://bucket/birds.")],
    root: Root = None,
    columns: Columns = None,
    megabytes: Annotated[int, typer.Option(min=1, help="Size of a shard, at which it ends.")] = 1000,
) -> None:
    """Write data as tar shards with a table beside them: for millions of pictures, on disk or in an object store."""
    check_data(data, root)
    from fieldmark.commands.shards import shards as write_shards

    write_shards(data, out, root=root, columns=columns_of(columns), megabytes=megabytes, listener=terminal())


@app.command(rich_help_panel=LOOK)
def preview(
    data: Annotated[Path, typer.Argument(help=DATA)],
    recipe: Annotated[str, typer.Option(help="Name of a recipe or a TOML file.")] = "finetune",
    root: Root = None,
    columns: Columns = None,
    out: Annotated[Path | None, typer.Option(help="Page; previews/<name of the data>.html if not given.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, such as augment.warp=1."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Number of training images.")] = 8,
) -> None:
    """Show training images as a recipe augments them, with their boxes and key points."""
    check_recipes([recipe], overrides=overrides or [])
    check_data(data, root)
    from fieldmark.commands.preview import preview as write_preview

    listener = terminal()
    path = write_preview(
        data,
        recipe,
        out=out,
        root=root,
        columns=columns_of(columns),
        overrides=overrides or [],
        count=images,
        listener=listener,
    )
    listener.note(f"Wrote {path}")


@app.command(rich_help_panel=LOOK)
def report(
    run: Annotated[Path, typer.Argument(help="A run or the bundle in it.")],
    data: Annotated[Path | None, typer.Argument(help="The data in its new place, if it was moved.")] = None,
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="Output page; RUN/report/index.html if not given.")] = None,
    split: Annotated[
        str | None, typer.Option(help="The split to show; test if it was evaluated, otherwise the validation data.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Write a page about a run: scores, predictions, look-alikes, mistakes, slices, data and time."""
    check_begun_run(run)
    check_data(data, root)
    from fieldmark.commands.report import report as write_report

    listener = terminal()
    listener.note(f"Wrote {write_report(run, data, root=root, out=out, split=split, device=device, listener=listener)}")


@app.command(rich_help_panel=LOOK)
def parts(
    run: Annotated[Path, typer.Argument(help="A run or a bundle whose method has parts, such as part_discovery.")],
    data: Annotated[Path | None, typer.Argument(help="Other data; that of the run if not given.")] = None,
    root: Root = None,
    columns: Columns = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Table (CSV), with a page beside it; RUN/parts/<split>.csv if not given."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all; all if not given.")] = None,
    device: Device = "auto",
) -> None:
    """Write discovered parts as key points: a table that `train` can read, and a page that shows them."""
    check_run(run)
    check_data(data, root)
    from fieldmark.commands.parts import parts as find_parts

    print_parts(
        find_parts(
            run, data, root=root, columns=columns_of(columns), out=out, split=split, device=device, listener=terminal()
        )
    )


@app.command(rich_help_panel=LOOK)
def bench(
    data: Annotated[Path, typer.Argument(help=DATA)],
    recipe: Annotated[str, typer.Option(help="Name of a recipe or a TOML file.")] = "finetune",
    backbone: Annotated[str | None, typer.Option(help="Any timm model.")] = None,
    weights: Annotated[str | None, typer.Option(help="auto, installed, hub, none or a .safetensors file.")] = None,
    root: Root = None,
    columns: Columns = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, such as images.size=160."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, max=3600.0, help="How long to take steps, about.")] = 20.0,
    device: Device = "auto",
    format: Annotated[Literal["table", "json"], typer.Option(help="Output format.")] = "table",
) -> None:
    """Measure how fast a recipe trains on this machine, where the time goes, and what limits it."""
    check_recipes([recipe], backbone=backbone, weights=weights, overrides=overrides or [])
    check_data(data, root)
    from fieldmark.commands.bench import bench as measure

    found = measure(
        data,
        recipe,
        root=root,
        columns=columns_of(columns),
        backbone=backbone,
        weights=weights,
        overrides=overrides or [],
        seconds=seconds,
        device=device,
        listener=terminal(),
    )
    print_bench(found, format)


@app.command(rich_help_panel=LOOK)
def datasets(
    root: Root = None,
    format: Annotated[Literal["table", "json"], typer.Option(help="Output format.")] = "table",
) -> None:
    """List the data sets that Fieldmark knows by name, and where a copy of each is."""
    from fieldmark.core.listener import relayed_warnings

    with relayed_warnings(terminal()):
        print_datasets(root, format)


@app.command(rich_help_panel=LOOK)
def backbones(
    speed: Annotated[bool, typer.Option(help="Measure how fast each answers on this machine.")] = True,
    format: Annotated[Literal["table", "json"], typer.Option(help="Output format.")] = "table",
) -> None:
    """List the networks whose pretrained weights are on this machine."""
    from fieldmark.commands.backbones import backbones as find_backbones

    print_backbones(find_backbones(speed=speed, listener=terminal()), format)


@app.command(rich_help_panel=LOOK)
def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe with every key that --set can change.")] = None,
) -> None:
    """List the built-in recipes, or print one."""
    if name is None:
        print_recipes()
    else:
        check_recipes([name])
        from fieldmark.learning.fitting.resolve import resolve_recipe

        typer.echo(resolve_recipe(name).to_toml(), nl=False)
