"""`compose`: a leaderboard → the page, of the blocks that reports are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fieldmark.comparison import plots
from fieldmark.comparison.leaderboard import PARTS, Leaderboard, Standing
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
        (f"{board.num_images:,}", f"images, {PARTS[board.part]}"),
        (duration(spent), "of training"),
    ]
    return render(
        "report.html",
        title=f"Recipes compared on {board.data}",
        summary=f"The same data and seeds for each; what counts is the difference to {board.baseline}.",
        figures=figures,
        notices=_notices(board),
        sections=[section for make in sections if (section := make(board)) is not None],
    )


def points(found: Difference) -> str:
    """In percentage points: "+1.2 (+0.3 to +2.1)"."""
    return f"{_signed(found.value)} ({_signed(found.low)} to {_signed(found.high)})"


def _signed(share: float) -> str:
    """In percentage points: "+1.2", "−0.3", "0.0"."""
    rounded = round(100 * share, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def chance_in_words(board: Leaderboard) -> str:
    """How many intervals leave zero out, and how many would if nothing differed."""
    number = len(board.compared)
    return (
        f"{board.clear} of {number} intervals {'leaves' if board.clear == 1 else 'leave'} zero out; were no recipe any "
        f"different from {board.baseline}, about {board.clear_by_chance:.1f} of {number} would all the same."
    )


def _notices(board: Leaderboard) -> list[str]:
    notices = []
    if board.missing:
        named = ", ".join(board.missing[:_NAMED]) + (" …" if len(board.missing) > _NAMED else "")
        notices.append(f"Not finished: {counted(len(board.missing), 'run')} to do ({named}). The same command goes on.")
    notices += [f"{run} failed: {reason}" for run, reason in board.failures.items()]
    return [*notices, *board.notices]


def _standings(board: Leaderboard) -> Section:
    header = ("#", "recipe", f"against {board.baseline}, points", "verdict", "in each seed", "right", "seeds", "NLL")
    rows = tuple(_row(board, place, one) for place, one in enumerate(board.standings, start=1))
    blocks: list[Block] = [Table(header, rows)]
    if board.compared:
        blocks.append(Text(chance_in_words(board)))
    return Section("standings", "Leaderboard", tuple(blocks))


def _row(board: Leaderboard, place: int, one: Standing) -> tuple[Cell, ...]:
    if one.accuracy is None or one.nll is None:
        failed = any(run.rpartition("-")[0] == one.recipe for run in board.failures)
        return (place, one.recipe, "failed" if failed else "to do", "", "", "", _seeds(board, one), "")
    tone: Tone = "right" if one.verdict.startswith("better") else "wrong" if one.verdict.startswith("worse") else ""
    gain = (
        _whole(points(one.gain))
        if one.gain
        else "the baseline"
        if one.recipe == board.baseline
        else "no seed in common"
    )
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
    """On one line."""
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
        f"Against {board.baseline}",
        (
            Plots(
                (
                    plots.differences(gains, title="Accuracy gained", unit="percentage points", scale=100),
                    plots.differences(
                        changes,
                        title="Negative log-likelihood: less is better",
                        unit="change",
                        good=-1,
                    ),
                )
            ),
            Text("Dots are means over seeds, lines their 95 % intervals over images, ticks the single seeds.", "soft"),
        ),
    )


def _cost(board: Leaderboard) -> Section | None:
    done = [one for one in board.standings if one.accuracy]
    if not done:
        return None
    header = ("#", "recipe", "training", "images/s, learning", "images/s, answering", "memory", "parameters")
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
        "Time of one training, mean over seeds, with its validation; most memory that its process took. On a machine "
        "that does other work meanwhile, times are for orientation; – is what was too short to "
        "time. Numbers in the plot are places on the leaderboard."
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
        "Mean over seeds; the baseline and the best others. The model is that of the last epoch, whatever the curve; "
        "of a soup (train.members) the curve is that of its first member, and the model the mean of all."
    )
    return Section("learning", "How they learnt", (Plots((plot,)), Text(text, "soft")))


def _reading(board: Leaderboard) -> Section:
    """What the figures say, and what they do not."""
    drawn = f"{board.num_images:,} images"
    if board.num_units < board.num_images:
        drawn += f" in {board.num_units:,} bursts and near-duplicates, each drawn as a whole,"
    texts = [
        f"An interval says how far a figure would move with other images of the same kind ({drawn} resampled, the "
        "answers averaged over seeds first). It says nothing about other seeds: that is what the single seeds show. A "
        "gain is worth believing where its interval leaves zero out and the seeds agree.",
        "Of several comparisons one in twenty intervals leaves zero out by chance. And the best of many on the same "
        "images looks better than it is.",
    ]
    if board.part == "test":
        texts.append("These are scores of the test part. Whoever chooses by them has no test part any more.")
    else:
        texts.append(
            f"Scores are those of the {PARTS[board.part]}; the test part was not touched. What is chosen here may be "
            "confirmed there: fieldmark compare … --split test."
        )
        texts.append("Likelihoods are those of calibrated probabilities, calibrated on these very images.")
    return Section("reading", "How to read this", tuple(Text(text) for text in texts))
