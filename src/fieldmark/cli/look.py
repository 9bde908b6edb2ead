"""Commands that draw and show data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldmark.cli.app import app
from fieldmark.cli.printing import print_audit
from fieldmark.cli.terminal import terminal

__all__ = ["audit", "draw"]

_SPOILT = 1


@app.command()
def audit(
    data: Annotated[Path, typer.Argument(help="Class folders, a table (CSV, TSV, Parquet) or a CUB-200-2011 folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Where the page and audit.json go; audits/<name of the data> if not given.")
    ] = None,
) -> None:
    """Look for what is wrong with data. Exit status 1 says that it would spoil a measurement."""
    from fieldmark.commands.audit import audit as audit_data

    place = data.resolve()
    out = out or Path("audits") / (place.name if place.is_dir() else place.stem)
    found = audit_data(data, out=out, listener=terminal())
    print_audit(found, out)
    if found.spoils:
        raise SystemExit(_SPOILT)


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
