"""Commands that train a classifier and ask it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldmark.cli.answers import Format, print_explanation, printed
from fieldmark.cli.app import DATA, Device, Root, app
from fieldmark.cli.scores import print_evaluation, print_leaderboard, print_validation
from fieldmark.cli.terminal import INTERRUPTED, terminal
from fieldmark.core.errors import FieldmarkError

__all__ = ["compare", "evaluate", "explain", "predict", "train"]

Tracker = Literal["tensorboard", "mlflow"]
_SOME_SKIPPED = _SOME_FAILED = 1
_ACCURACY = "Of the names that are given, such as 0.95 (the default): else a coarser name, or none."
_COVERAGE = "Share of images whose set of possible classes holds the right one; 0.9 if not given."


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help=DATA)],
    recipe: Annotated[
        str | None,
        typer.Option(help="A recipe's name (`fieldmark recipes` lists them), or a TOML file; finetune if not given."),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm model, such as mobilenetv2_100.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="hub (download), none (start from scratch) or a .safetensors file.")
    ] = None,
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<name of the data> if not given.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, such as train.epochs=3.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped, or begin it.")] = False,
    device: Device = "auto",
    track: Annotated[
        Tracker | None, typer.Option(help="Also tell TensorBoard or MLflow how training goes; each is an extra.")
    ] = None,
) -> None:
    """Train a classifier. The test part is left alone."""
    from fieldmark.commands.train import train as train_run
    from fieldmark.core.listener import Listeners
    from fieldmark.core.trackers import tracker
    from fieldmark.learning.fitting.fit import Stopped

    path = data.resolve()
    out = out or Path("runs") / (path.name if path.is_dir() else path.stem)
    listener = terminal()
    try:
        run = train_run(
            data,
            recipe,
            out=out,
            root=root,
            backbone=backbone,
            weights=weights,
            overrides=overrides or [],
            resume=resume,
            device=device,
            listener=Listeners(listener, tracker(track, out)) if track else listener,
        )
    except Stopped as stopped:
        place = [] if root is None else ["--root", str(root)]
        command = shlex.join(["fieldmark", "train", str(data), *place, "--out", str(out), "--resume"])
        typer.echo(f"fieldmark: {stopped}. To go on: {command}", err=True)
        raise SystemExit(INTERRUPTED) from None
    print_validation(run.folder, listener)
    listener.note(f"Next: fieldmark evaluate {run.folder}")


@app.command()
def compare(
    data: Annotated[Path, typer.Argument(help=DATA)],
    recipes: Annotated[
        str, typer.Option(help="Names (`fieldmark recipes`) or TOML files, with commas: finetune,probe.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Each recipe is trained so many times.")] = 3,
    baseline: Annotated[
        str | None, typer.Option(help="What the others are compared with; finetune, or else the first, if not given.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm model, for all recipes.")] = None,
    weights: Annotated[str | None, typer.Option(help="hub, none or a .safetensors file, for all recipes.")] = None,
    root: Root = None,
    out: Annotated[
        Path | None, typer.Option(help="Where everything goes; comparisons/<name of the data> if not given.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change them all, such as images.size=160."),
    ] = None,
    split: Annotated[
        Literal["val", "test"],
        typer.Option(help="test: score the test part, once for each run, to confirm what was chosen before."),
    ] = "val",
    device: Device = "auto",
) -> None:
    """Compare recipes on your data: which of them pays? The same command goes on where it was stopped."""
    from fieldmark.commands.compare import compare as compare_recipes
    from fieldmark.core.wording import counted

    place = data.resolve()
    board = compare_recipes(
        data,
        [name for name in (part.strip() for part in recipes.split(",")) if name],
        out=out or Path("comparisons") / (place.name if place.is_dir() else place.stem),
        seeds=seeds,
        baseline=baseline,
        root=root,
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
        typer.echo(f"fieldmark: stopped with {counted(len(board.missing), 'run')} to do. To go on: {command}", err=True)
        raise SystemExit(INTERRUPTED)
    if board.failures:
        raise SystemExit(_SOME_FAILED)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    data: Annotated[Path | None, typer.Argument(help="Other data; the run's own if not given.")] = None,
    root: Root = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all; test if not given.")] = None,
    accuracy: Annotated[float | None, typer.Option(help=_ACCURACY)] = None,
    coverage: Annotated[float | None, typer.Option(help=_COVERAGE)] = None,
    background: Annotated[
        bool,
        typer.Option(
            "--background", help="Also measure how much it leans on the background (by boxes, masks or found parts)."
        ),
    ] = False,
    device: Device = "auto",
) -> None:
    """Score a classifier, each figure with its 95 % interval, and hold its verdicts to what they promise."""
    from fieldmark.commands.evaluate import evaluate as evaluate_run

    result = evaluate_run(
        run,
        data,
        root=root,
        split=split,
        accuracy=accuracy,
        coverage=coverage,
        background=background,
        device=device,
        listener=terminal(),
    )
    print_evaluation(result)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    paths: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs; or - for a list on standard input.")
    ] = None,
    format: Annotated[Format, typer.Option(help="How answers are printed; json: one object a line.")] = "table",
    among: Annotated[Path | None, typer.Option(help="Checklist: a file of class names, one a line.")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="How many classes to list for each image.")] = 5,
    accuracy: Annotated[float | None, typer.Option(help=_ACCURACY)] = None,
    coverage: Annotated[float | None, typer.Option(help=_COVERAGE)] = None,
    bursts: Annotated[
        bool, typer.Option("--bursts", help="The photographs in one folder show one thing: one more answer for each.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Answer for photographs. Exit status 1 says that some files were skipped."""
    from fieldmark.core.imports import uncollected

    with uncollected():
        from fieldmark.answering.predictor import Predictor
        from fieldmark.commands.predict import Skipped, read_checklist
        from fieldmark.commands.predict import predict as predict_paths

    names = read_checklist(among) if among else None
    files, predictor = _asked_for(paths or []), Predictor.load(run, device=device)
    thresholds = predictor.bundle.thresholds(accuracy, coverage)
    for line in thresholds.notes if thresholds else ("Not calibrated: these are plain softmax probabilities",):
        typer.echo(f"note: {line}.", err=True)
    results = predict_paths(
        predictor, files, among=names, candidates=candidates, accuracy=accuracy, coverage=coverage, bursts=bursts
    )
    skipped = 0
    for result in printed(results, format):
        if isinstance(result, Skipped):
            typer.echo(f"skipped: {result.reason}", err=True)
            skipped += 1
    if skipped:
        raise SystemExit(_SOME_SKIPPED)


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    image: Annotated[Path, typer.Argument(help="The photograph.")],
    versus: Annotated[str | None, typer.Option(help="The class that it is not; the runner-up if not given.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Where the training images are now, if they were moved: the folder above them.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write into; RUN/explanations if not given.")] = None,
    device: Device = "auto",
) -> None:
    """Show why it is A and not B: the region that decides, known examples of it, and what exchanging it does."""
    from fieldmark.answering.explaining.explainer import default_folder, write_explanation
    from fieldmark.commands.explain import explain as explain_image

    found = explain_image(run, image, versus, root=root, device=device)
    print_explanation(found)
    typer.echo(f"Wrote {write_explanation(found, out or default_folder(run))}, and its figures beside it as JSON")


def _asked_for(paths: list[str]) -> list[str]:
    """The arguments, or the lines of standard input."""
    if paths == ["-"] or (not paths and not sys.stdin.isatty()):
        paths = [line.strip() for line in sys.stdin if line.strip()]
    if not paths:
        raise FieldmarkError("No images were named", "Give files, folders or globs, or a list on standard input.")
    return paths
