"""Commands that draw and show data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldmark.cli.app import app
from fieldmark.cli.terminal import terminal

__all__ = ["draw"]


@app.command()
def draw(
    dest: Annotated[Path, typer.Argument(help="Folder to draw into.")],
    species: Annotated[int, typer.Option(help="How many species.")] = 12,
    images: Annotated[int, typer.Option(help="Images of each.")] = 60,
    size: Annotated[int, typer.Option(help="Side in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="Another seed draws other species.")] = 0,
    kind: Annotated[
        Literal["species", "stages", "individuals", "attributes", "impostors", "mirror"],
        typer.Option(
            help="What is to be told apart: species by their marks, stages of a moult, individuals seen in "
            "bursts, marks that vary freely, impostors with one altered mark, mirror images."
        ),
    ] = "species",
    habitat: Annotated[
        Literal["free", "tied"],
        typer.Option(help="tied: each species keeps to one habitat, except in the test part."),
    ] = "free",
    noise: Annotated[float, typer.Option(help="Share of the training pictures that get a wrong label.")] = 0.0,
    duplicates: Annotated[float, typer.Option(help="Share of the pictures that are there twice.")] = 0.0,
    unknown: Annotated[int, typer.Option(help="Further species, in a folder that training does not see.")] = 0,
    long_tail: Annotated[
        float, typer.Option(help="How many times larger the largest class is in training than the smallest.")
    ] = 1.0,
) -> None:
    """Draw a field guide: pictures of invented birds, with all that is true of them in a table."""
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
    listener.note(f"Drew {species} species into {folder}; its page is {folder / 'guide.html'}")
