"""Commands about likeness: galleries of photographs, and classes that a few photographs show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldmark.cli.answers import print_found
from fieldmark.cli.app import ANSWER, SEARCH, Columns, Device, Engine, app, columns_of
from fieldmark.cli.early import check_run
from fieldmark.cli.terminal import say, terminal
from fieldmark.core.wording import shown

__all__ = ["enrol", "index", "retrieve", "search"]

_SOME_SKIPPED = 1
_RUN = "A run or a bundle."
_SCORES = {
    "recall@1": "Recall@1",
    "recall@5": "Recall@5",
    "recall@10": "Recall@10",
    "r_precision": "R-precision",
    "map@r": "MAP@R",
}
_IDENTIFIED = {
    "known": "known: the right name first",
    "auroc": "known or a stranger: AUROC",
    "fnir@0.01": "known: missed where 1 % of strangers get a name",
    "fnir@0.05": "known: missed where 5 % of strangers get a name",
}
_PictureGallery = Annotated[
    str | None,
    typer.Option(
        "--gallery",
        metavar="PLACE",
        help="Folder, or a database: postgresql or qdrant, see the guide. RUN/gallery if not given.",
    ),
]


@app.command(rich_help_panel=SEARCH)
def index(
    run: Annotated[Path, typer.Argument(help=_RUN)],
    paths: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs or tables; the data of the run if not given.")
    ] = None,
    gallery: _PictureGallery = None,
    columns: Columns = None,
    labels: Annotated[
        bool, typer.Option(help="Take labels and groups from tables, and labels from class folders.")
    ] = True,
    parts: Annotated[
        bool, typer.Option("--parts", help="Keep the vectors of the method's parts too, for search --part.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove these photographs, or those in these folders, instead.")
    ] = False,
    root: Annotated[Path | None, typer.Option(help="Folder of the run's data, if it was moved.")] = None,
    device: Device = "auto",
    engine: Engine = "auto",
) -> None:
    """Add photographs to a gallery, for `search`. Exit status 1 means that some files were skipped."""
    check_run(run)
    from fieldmark.commands.index import index as index_photographs

    found = index_photographs(
        run,
        paths or None,
        gallery=gallery,
        columns=columns_of(columns),
        labels=labels,
        parts=parts,
        remove=remove,
        root=root,
        device=device,
        engine=engine,
        listener=terminal(),
    )
    for one in found.skipped:
        say(f"skipped: {one.reason}")
    typer.echo(shown(f"{found.place}: {found.said}"))
    if found.skipped:
        raise SystemExit(_SOME_SKIPPED)


@app.command(rich_help_panel=SEARCH)
def search(
    run: Annotated[Path, typer.Argument(help=_RUN)],
    paths: Annotated[list[str], typer.Argument(help="Photographs: files, folders, globs or tables.")],
    gallery: _PictureGallery = None,
    most: Annotated[int, typer.Option(min=1, help="Number of neighbours of each photograph.")] = 10,
    label: Annotated[str | None, typer.Option(help="Only neighbours with this label.")] = None,
    not_own_group: Annotated[
        bool,
        typer.Option(
            "--not-own-group", help="Leave out neighbours of the photograph's own group (burst, camera), and itself."
        ),
    ] = False,
    part: Annotated[
        str | None, typer.Option(help="Compare this part only, such as the head; see `fieldmark parts`.")
    ] = None,
    columns: Columns = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a contact sheet, search.html and search.png; none if not given.")
    ] = None,
    format: Annotated[
        Literal["table", "json"], typer.Option(help="Output format; json prints one object per line.")
    ] = "table",
    device: Device = "auto",
) -> None:
    """Find the most similar photographs in a gallery. Exit status 1 means that some files were skipped."""
    check_run(run)
    from fieldmark.answering.things import Skipped
    from fieldmark.commands.search import search as search_gallery

    listener = terminal()
    results = search_gallery(
        run,
        paths,
        gallery=gallery,
        most=most,
        label=label,
        not_own_group=not_own_group,
        part=part,
        columns=columns_of(columns),
        out=out,
        device=device,
        listener=listener,
    )
    print_found([one for one in results if not isinstance(one, Skipped)], format)
    skipped = [one for one in results if isinstance(one, Skipped)]
    for one in skipped:
        say(f"skipped: {one.reason}")
    if out is not None:
        listener.note(f"Wrote {out / 'search.html'} and {out / 'search.png'}")
    if skipped:
        raise SystemExit(_SOME_SKIPPED)


@app.command(rich_help_panel=SEARCH)
def retrieve(
    run: Annotated[Path, typer.Argument(help=_RUN)],
    paths: Annotated[list[str], typer.Argument(help="Photographs with labels: class folders or tables.")],
    unseen: Annotated[bool, typer.Option("--unseen", help="Only classes that the run was not trained on.")] = False,
    identify: Annotated[
        bool,
        typer.Option(
            "--identify", help="Also search for a name or none: how many are missed, how many strangers named."
        ),
    ] = False,
    columns: Columns = None,
    format: Annotated[Literal["table", "json"], typer.Option(help="Output format.")] = "table",
    device: Device = "auto",
) -> None:
    """Score a search: does each photograph find others of its class? Exit status 1 means that some were skipped."""
    check_run(run)
    from fieldmark.commands.retrieve import retrieve as retrieve_pictures
    from fieldmark.core.storage import as_json
    from fieldmark.core.wording import counted

    found = retrieve_pictures(
        run,
        paths,
        unseen=unseen,
        identify=identify,
        columns=columns_of(columns),
        device=device,
        listener=terminal(),
    )
    if format == "json":
        typer.echo(as_json(found.as_dict(), ascii=True))
    else:
        typer.echo(
            f"{counted(found.num_pictures, 'photograph')} with {counted(found.num_classes, 'label')}, searched for "
            f"{len(found.retrieval.queries):,} of them; 95 % intervals over labels"
        )
        for name, share in found.retrieval.scores().items():
            typer.echo(f"{_SCORES[name]:<14} {share}")
        for name, found_share in found.identified.scores().items() if found.identified else ():
            typer.echo(f"{_IDENTIFIED[name]:<47} {found_share or 'too few photographs'}")
    for one in found.skipped:
        say(f"skipped: {one.reason}")
    if found.skipped:
        raise SystemExit(_SOME_SKIPPED)


@app.command(rich_help_panel=ANSWER)
def enrol(
    run: Annotated[Path, typer.Argument(help=_RUN)],
    name: Annotated[str, typer.Argument(help="The class.")],
    paths: Annotated[
        list[str] | None, typer.Argument(help="Photographs of the class: files, folders, globs or tables.")
    ] = None,
    under: Annotated[
        list[str] | None,
        typer.Option(metavar="LEVEL=NAME", help="What it belongs to, such as genus=Passerina. May be repeated."),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add photographs to a class that is enrolled already.")] = False,
    rename: Annotated[str | None, typer.Option(help="Give an enrolled class this name instead.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove an enrolled class instead.")] = False,
    device: Device = "auto",
) -> None:
    """Add a class from a few photographs, without training. Exit status 1 means that some files were skipped."""
    check_run(run)
    from fieldmark.commands.enrol import enrol as enrol_class
    from fieldmark.core.errors import DataError

    pairs = [one.partition("=") for one in under or ()]
    if wrong := [level for level, equals, belongs in pairs if not (level and equals and belongs)]:
        raise DataError(f"--under cannot be {wrong[0]!r}", "Expected LEVEL=NAME, such as genus=Passerina.")
    found = enrol_class(
        run,
        name,
        paths or None,
        under={level: belongs for level, _, belongs in pairs},
        add=add,
        rename=rename,
        remove=remove,
        device=device,
        listener=terminal(),
    )
    for one in found.skipped:
        say(f"skipped: {one.reason}")
    typer.echo(shown(found.said))
    if found.skipped:
        raise SystemExit(_SOME_SKIPPED)
