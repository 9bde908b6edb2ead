"""Commands that draw and show data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldmark.cli.app import Root, app
from fieldmark.cli.printing import print_datasets
from fieldmark.cli.terminal import terminal

__all__ = ["datasets", "draw"]


@app.command()
def draw(
    dest: Annotated[Path, typer.Argument(help="Folder to draw into.")],
    species: Annotated[int, typer.Option(help="How many species.")] = 12,
    images: Annotated[int, typer.Option(help="Images of each.")] = 60,
    size: Annotated[int, typer.Option(help="Side in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="Another seed draws other species.")] = 0,
    habitat: Annotated[
        Literal["free", "tied"],
        typer.Option(help="tied: each species keeps to one habitat, except in the test part."),
    ] = "free",
) -> None:
    """Draw a field guide: pictures of invented birds, with all that is true of them in a table."""
    from fieldmark.fieldguide import draw as draw_guide

    listener = terminal()
    with listener.progress("Drawing") as tick:
        folder = draw_guide(
            dest, species=species, images_per_species=images, size=size, seed=seed, habitat=habitat, progress=tick
        )
    listener.note(f"Drew {species} species into {folder}; its page is {folder / 'guide.png'}")


@app.command()
def datasets(
    root: Root = None,
    format: Annotated[Literal["table", "json"], typer.Option(help="How they are listed.")] = "table",
) -> None:
    """List the data sets that go by name, and where a copy of each is."""
    from fieldmark.commands.listener import relayed_warnings

    with relayed_warnings(terminal()):
        print_datasets(root, format)
