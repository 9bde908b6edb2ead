"""`compose` turns a leaderboard into a page, from the same blocks as reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fieldmark.comparison import plots
from fieldmark.comparison.leaderboard import TITLES, Leaderboard, Standing
from fieldmark.core.wording import counted, duration
from fieldmark.evaluation.paired import Difference
from fieldmark.pages import render
from fieldmark.reporting.blocks import Block, Cell, Interval, Plots, Section, Table, Text, Tone

__all__ = ["chance_in_words", "compose", "points"]

_NAMED: Final = 6


def compose(board: Leaderboard) -> str:
    """The whole page as HTML."""
    sections: tuple[Callable[[Leaderboard], Section | None], ...] = (_standings, _gains, _cost, _learning, _reading)
    done = sum(len(one.seeds) for one in board.standings)
    spent = sum((one.seconds or 0) * len(one.seeds) for one in board.standings)
    figures = [
        (f"{len(board.standings)}", "recipes"),
        (f"{done} of {len(board.standings) * len(board.seeds)}", "runs done"),
        (f"{board.num_images:,}", f"{'image' if board.num_images == 1 else 'images'}, {TITLES[board.split]}"),
        (duration(spent), "training time"),
    ]
    return render(
        "report.html",
        title=f"Recipes compared on {board.data}",
        summary=f"Each recipe was trained on the same data with the same seeds, and is compared with {board.baseline}.",
        figures=figures,
        notices=_notices(board),
        sections=[section for make in sections if (section := make(board)) is not None],
    )


def points(found: Difference) -> str:
    """A difference in percentage points: "+1.2 (+0.3 to +2.1)"."""
    return f"{_signed(found.value)} ({_signed(found.low)} to {_signed(found.high)})"


def _signed(share: float) -> str:
    """A share in percentage points: "+1.2", "−0.3", "0.0"."""
    rounded = round(100 * share, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def chance_in_words(board: Leaderboard) -> str:
    """How many intervals exclude zero, and how many would do so by chance."""
    if len(board.compared) == 1:
        found = "excludes" if board.clear else "includes"
        return f"The interval {found} zero. By chance, without any difference, 1 in 20 intervals excludes it."
    found = "excludes" if board.clear == 1 else "exclude"
    return (
        f"{board.clear} of {len(board.compared)} intervals {found} zero. If every recipe were as good as "
        f"{board.baseline}, about {board.clear_by_chance:.1f} would do so by chance."
    )


def _notices(board: Leaderboard) -> list[str]:
    notices = []
    if board.missing:
        named = ", ".join(board.missing[:_NAMED]) + (" …" if len(board.missing) > _NAMED else "")
        notices.append(
            f"{counted(len(board.missing), 'run')} not finished ({named}). Run the same command again to continue."
        )
    notices += [f"{run} failed: {reason}" for run, reason in board.failures.items()]
    return [*notices, *board.notices]


def _standings(board: Leaderboard) -> Section:
    difference = f"difference from {board.baseline}, points"
    header = ("#", "recipe", difference, "verdict", "for each seed", "accuracy", "seeds", "NLL")
    rows = tuple(_row(board, place, one) for place, one in enumerate(board.standings, start=1))
    blocks: list[Block] = [Table(header, rows)]
    if board.compared:
        blocks.append(Text(chance_in_words(board)))
    return Section("standings", "Leaderboard", tuple(blocks))


def _row(board: Leaderboard, place: int, one: Standing) -> tuple[Cell, ...]:
    if one.accuracy is None or one.nll is None:
        failed = any(run.rpartition("-")[0] == one.recipe for run in board.failures)
        return (place, one.recipe, "failed" if failed else "not finished", "", "", "", _seeds(board, one), "")
    tone: Tone = "right" if one.verdict.startswith("better") else "wrong" if one.verdict.startswith("worse") else ""
    gain = _whole(points(one.gain)) if one.gain else "baseline" if one.recipe == board.baseline else "no common seed"
    by_seed = one.gain.by_seed if one.gain else ()
    spread = f", spread {100 * one.spread:.1f}" if one.spread is not None else ""
    return (
        place,
        one.recipe,
        gain,
        one.verdict,
        " ".join(map(_signed, by_seed)),
        Interval(one.accuracy, tone),
        _seeds(board, one) + spread,
        str(one.nll),
    )


def _whole(text: str) -> str:
    """The text without line breaks."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _seeds(board: Leaderboard, one: Standing) -> str:
    return f"{len(one.seeds)} of {len(board.seeds)}" if len(one.seeds) < len(board.seeds) else f"{len(one.seeds)}"


def _gains(board: Leaderboard) -> Section | None:
    gains = [(one.recipe, one.gain) for one in board.compared if one.gain]
    changes = [(one.recipe, one.nll_change) for one in board.compared if one.nll_change]
    if not gains:
        return None
    return Section(
        "gains",
        f"Compared with {board.baseline}",
        (
            Plots(
                (
                    plots.differences(gains, title="Difference in accuracy", unit="percentage points", scale=100),
                    plots.differences(
                        changes,
                        title="Negative log-likelihood (lower is better)",
                        unit="difference",
                        good=-1,
                    ),
                )
            ),
            Text("Dots are means over seeds, lines are 95 % intervals over images, ticks are single seeds.", "soft"),
        ),
    )


def _cost(board: Leaderboard) -> Section | None:
    done = [one for one in board.standings if one.accuracy]
    if not done:
        return None
    header = ("#", "recipe", "training", "images/s, training", "images/s, inference", "memory", "parameters")
    rows = tuple(
        (
            place,
            one.recipe,
            duration(one.seconds or 0),
            "–" if one.learning_speed is None else f"{one.learning_speed:,.0f}",
            "–" if one.answering_speed is None else f"{one.answering_speed:,.0f}",
            ", ".join(
                f"{most / 1e9:.1f} GB{' of GPU' if kind == 'gpu' else ''}" for kind, most in (one.memory or {}).items()
            ),
            f"{(one.num_parameters or 0) / 1e6:.2f} million",
        )
        for place, one in enumerate(done, start=1)
    )
    text = (
        "The time is that of one training with its validation, averaged over seeds; the memory is the most that its "
        "process used. If the machine was also doing other work, the times are only a rough guide. A dash (–) means "
        "that the time was too short to measure. Numbers in the plot are ranks on the leaderboard."
    )
    return Section(
        "cost",
        "Time and memory",
        (Table(header, rows), Text(text, "soft"), Plots((plots.accuracy_against_time(done, board.baseline),))),
    )


def _learning(board: Leaderboard) -> Section | None:
    plot = plots.learning_curves(board.standings, board.baseline)
    if plot is None:
        return None
    text = (
        "Means over seeds, for the baseline and the best other recipes. The final model is always that of the last "
        "epoch. For a soup (train.members), the curve is that of its first member, and the model is the mean of all."
    )
    return Section("learning", "Learning curves", (Plots((plot,)), Text(text, "soft")))


def _reading(board: Leaderboard) -> Section:
    """What the figures mean, and what they do not."""
    resampled = counted(board.num_images, "image")
    if board.num_units < board.num_images:
        resampled += (
            f" in {counted(board.num_units, 'independent unit')}, with bursts and near-duplicates kept together"
        )
    texts = [
        "An interval shows how much a figure could change with other images of the same kind. The answers are averaged "
        f"over seeds, and the images are resampled ({resampled}). It says nothing about other seeds; compare the "
        "values for each seed instead. Trust a gain if its interval excludes zero and the seeds agree.",
        "One in twenty intervals excludes zero by chance. And the best of many recipes on the same images looks better "
        "than it is.",
    ]
    if board.split == "test":
        texts.append("These scores are from the test split. If you choose a recipe by them, no test split is left.")
    else:
        texts.append(
            f"These scores are from the {TITLES[board.split]}; the test split was not used. To confirm a choice on the "
            "test split: fieldmark compare … --split test."
        )
        texts.append("Likelihoods are of calibrated probabilities, which were calibrated on these same images.")
    return Section("reading", "How to read this", tuple(Text(text) for text in texts))
