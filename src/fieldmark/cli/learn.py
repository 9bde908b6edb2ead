"""Commands that train classifiers, compare and score them, and explain their answers."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldmark.cli.answers import print_explanation
from fieldmark.cli.app import ACCURACY, ANSWER, COVERAGE, DATA, Columns, Device, Engine, Root, app, columns_of
from fieldmark.cli.early import check_data, check_free, check_recipes, check_run, following, is_run
from fieldmark.cli.scores import print_evaluation, print_leaderboard, print_validation
from fieldmark.cli.terminal import INTERRUPTED, say, terminal
from fieldmark.core.launch import launched
from fieldmark.core.wording import counted, shown

__all__ = ["compare", "evaluate", "explain", "train"]

Tracker = Literal["tensorboard", "mlflow"]
_SOME_FAILED = 1


@app.command(rich_help_panel=ANSWER)
def train(
    data: Annotated[Path, typer.Argument(help=f"{DATA} Or a run, to train again on its data.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Name of a recipe (`fieldmark recipes` lists them) or a TOML file; finetune if not given. auto, with "
            "--budget, leaves the choice to the budget, as no name does."
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Any timm model; `fieldmark backbones` lists those whose weights are at hand.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="auto (installed ones, or else the hub's), installed, hub (download), none (start from scratch) or a "
            ".safetensors file."
        ),
    ] = None,
    root: Root = None,
    columns: Columns = None,
    decisions: Annotated[
        list[Path] | None,
        typer.Option(help="Table of decisions that a labelling page saved (see doubt, next). May be repeated."),
    ] = None,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option(
            help="Photographs without labels, for --recipe pseudo_labels: a folder, glob or table. May be repeated."
        ),
    ] = None,
    from_run: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Go on from a finished run: from its weights, with its data and the new photographs in DATA together.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/<name of the data> if not given.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, such as train.epochs=3."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped, or start it.")] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            help="What the training may take: 10m, '200000 images', or 2eur with --price. What was not named, such as "
            "recipe, backbone, size and epochs, is chosen on validation images."
        ),
    ] = None,
    price: Annotated[str | None, typer.Option(help="Of an hour, for a budget in money, such as 1.20/h.")] = None,
    device: Device = "auto",
    track: Annotated[
        Tracker | None, typer.Option(help="Also log to TensorBoard or MLflow; each needs an extra.")
    ] = None,
) -> None:
    """Train a classifier. The test split is not used."""
    from fieldmark.learning.budget.budget import within

    allowed, recipe = within(budget, price, recipe)
    if recipe or not (from_run or is_run(data)):
        check_recipes([recipe or "finetune"], backbone=backbone, weights=weights, overrides=overrides or [])
    if not resume and not is_run(data):  # a finished run does not need its data
        check_data(data, root)
    older = from_run or (data if is_run(data) else None)
    if out is None and older:
        out = following(older, resume=resume)
    elif out is None:
        path = data.resolve()
        out = Path("runs") / (path.name if path.is_dir() else path.stem)
    if not (resume or from_run or launched()):  # what torchrun starts again goes on by itself
        check_free(out)
    from fieldmark.commands.train import train as train_run
    from fieldmark.core.listener import Listeners
    from fieldmark.core.trackers import tracker
    from fieldmark.learning.fitting.fit import Stopped

    listener = terminal()
    try:
        run = train_run(
            data,
            recipe,
            out=out,
            root=root,
            columns=columns_of(columns),
            decisions=decisions,
            unlabelled=unlabelled or None,
            from_run=from_run,
            backbone=backbone,
            weights=weights,
            overrides=overrides or [],
            budget=allowed,
            resume=resume,
            device=device,
            listener=Listeners(listener, tracker(track, out)) if track else listener,
        )
    except Stopped as stopped:
        place = [] if root is None else ["--root", str(root)]
        said = [] if columns is None else ["--columns", columns]
        said += [] if from_run is None else ["--from", str(from_run)]
        said += [text for file in decisions or [] for text in ("--decisions", str(file))]
        command = shlex.join(["fieldmark", "train", str(data), *place, *said, "--out", str(out), "--resume"])
        say(f"fieldmark: {stopped}. To continue: {command}")
        raise SystemExit(INTERRUPTED) from None
    print_validation(run.folder, listener)
    listener.note(f"Next: fieldmark evaluate {run.folder}")


@app.command(rich_help_panel=ANSWER)
def compare(
    data: Annotated[Path, typer.Argument(help=DATA)],
    recipes: Annotated[
        str, typer.Option(help="Names (see `fieldmark recipes`) or TOML files, separated by commas: finetune,probe.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Number of times that each recipe is trained.")] = 3,
    baseline: Annotated[
        str | None,
        typer.Option(help="Recipe that the others are compared with; finetune or else the first if not given."),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm model, for all recipes.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="auto, installed, hub, none or a .safetensors file, for all recipes.")
    ] = None,
    root: Root = None,
    columns: Columns = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; comparisons/<name of the data> if not given.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of all recipes, such as images.size=160."),
    ] = None,
    split: Annotated[
        Literal["val", "test"],
        typer.Option(help="The split to score. Use test, scored once per run, to confirm a choice made on val."),
    ] = "val",
    device: Device = "auto",
) -> None:
    """Compare recipes on your data. If it is stopped, the same command continues."""
    names = [name for name in (given.strip() for given in recipes.split(",")) if name]
    check_recipes(names, backbone=backbone, weights=weights, overrides=overrides or [], named=True)
    check_data(data, root)
    from fieldmark.commands.compare import compare as compare_recipes

    place = data.resolve()
    board = compare_recipes(
        data,
        names,
        out=out or Path("comparisons") / (place.name if place.is_dir() else place.stem),
        seeds=seeds,
        baseline=baseline,
        root=root,
        columns=columns_of(columns),
        backbone=backbone,
        weights=weights,
        overrides=overrides or [],
        split=split,
        device=device,
        listener=terminal(),
    )
    print_leaderboard(board)
    if board.missing:
        command = shlex.join(["fieldmark", *sys.argv[1:]])
        say(f"fieldmark: stopped with {counted(len(board.missing), 'run')} to go. To continue: {command}")
        raise SystemExit(INTERRUPTED)
    if board.failures:
        raise SystemExit(_SOME_FAILED)


@app.command(rich_help_panel=ANSWER)
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    data: Annotated[Path | None, typer.Argument(help="Other data; that of the run if not given.")] = None,
    root: Root = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the scores; RUN/evaluation/<split> if not given.")
    ] = None,
    columns: Columns = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all; test if not given.")] = None,
    accuracy: Annotated[float | None, typer.Option(help=ACCURACY)] = None,
    coverage: Annotated[float | None, typer.Option(help=COVERAGE)] = None,
    background: Annotated[
        bool,
        typer.Option(
            "--background", help="Also measure reliance on the background (needs boxes, masks or discovered parts)."
        ),
    ] = False,
    of_interest: Annotated[
        list[str] | None,
        typer.Option(help="A class that must not be missed: its sensitivity and specificity. May be repeated."),
    ] = None,
    sensitivity: Annotated[
        float, typer.Option(help="Share of the held-out images of the class of interest to be found.")
    ] = 0.9,
    device: Device = "auto",
    engine: Engine = "auto",
) -> None:
    """Score a classifier with 95 % intervals, and check that its verdicts keep their promises."""
    check_run(run)
    check_data(data, root)
    from fieldmark.commands.evaluate import evaluate as evaluate_run

    result = evaluate_run(
        run,
        data,
        root=root,
        out=out,
        columns=columns_of(columns),
        split=split,
        accuracy=accuracy,
        coverage=coverage,
        background=background,
        of_interest=of_interest or (),
        sensitivity=sensitivity,
        device=device,
        engine=engine,
        listener=terminal(),
    )
    print_evaluation(result)


@app.command(rich_help_panel=ANSWER)
def explain(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    image: Annotated[Path, typer.Argument(help="A photograph.")],
    versus: Annotated[str | None, typer.Option(help="The class to compare with; the runner-up if not given.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that contains the training images, if they were moved.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; RUN/explanations if not given.")] = None,
    device: Device = "auto",
) -> None:
    """Show why the answer is A and not B: the region that decides, examples, and the effect of replacing it."""
    check_run(run)
    from fieldmark.answering.explaining.explainer import default_folder, write_explanation
    from fieldmark.commands.explain import explain as explain_image
    from fieldmark.core.storage import check_writable

    folder = out or default_folder(run)
    check_writable(folder)
    found = explain_image(run, image, versus, root=root, device=device)
    print_explanation(found)
    typer.echo(shown(f"Wrote {write_explanation(found, folder)}, with its figures as JSON beside it"))
