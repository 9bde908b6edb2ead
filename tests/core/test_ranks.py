"""Processes that train together: shares, what is exchanged, who leads and how it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core import ranks
from fieldmark.core.errors import RankError, RecipeError, TrainingError
from support.ranks import answers_of, forks, in_processes, in_ranks

pytestmark = forks


def test_one_alone_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.arange(6.0, requires_grad=True)
    assert (ranks.rank(), ranks.size(), ranks.share(5)) == (0, 1, slice(0, 5))
    assert ranks.gathered(rows) is rows
    assert ranks.summed(rows) is rows
    assert ranks.told("x") == ["x"]
    assert list(ranks.together([1, 2])) == [1, 2]
    assert ranks.led(lambda: 3)() == 3
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")  # torchrun with one process
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    assert ranks.led(lambda: ranks.size())() == 1


@given(count=st.integers(0, 200), size=st.integers(1, 9))
def test_shares_are_everything_once(count: int, size: int) -> None:
    shares = []
    with pytest.MonkeyPatch.context() as patch:
        for rank in range(size):
            patch.setattr(ranks, "_group", ranks._Group(rank, size, None, None))
            shares.append(list(range(count))[ranks.share(count)])
    assert [row for share in shares for row in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_rows_of_all_are_gathered_and_their_gradient_returns() -> None:
    """Of 7 rows three processes have 2, 2 and 3."""
    every = torch.arange(14.0).view(7, 2) / 10
    whole = every.clone().requires_grad_()
    whole.softmax(0).square().sum().backward()

    def act() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        own = every[ranks.share(7)].clone().requires_grad_()
        rows = ranks.gathered(own)
        weight = len(own) / 7
        (weight * rows.softmax(0).square().sum()).backward()
        return rows.detach(), own.grad, ranks.gathered(torch.arange(7)[ranks.share(7)])

    found = in_ranks(3, act)
    for rows, _, numbers in found:
        assert torch.equal(rows, every)
        assert torch.equal(numbers, torch.arange(7))
    torch.testing.assert_close(torch.cat([gradient for _, gradient, _ in found]), whole.grad)


def test_sums_and_tensors_of_the_leader() -> None:
    def act() -> tuple[float, dict[str, torch.Tensor], list[int]]:
        number = float(ranks.rank() + 1)
        mine = {"a": torch.full((2, 3), number), "b": torch.tensor(7)} if ranks.rank() == 0 else {}
        return float(ranks.summed(torch.tensor(number))), ranks.spread(mine), ranks.told(ranks.rank())

    for total, tensors, numbers in in_ranks(2, act):
        assert total == 3
        assert torch.equal(tensors["a"], torch.ones(2, 3))
        assert tensors["b"].item() == 7
        assert numbers == [0, 1]


class _Count:
    """A job of ten steps; the leader takes three."""

    taken: int = 0

    def __call__(self) -> None:
        for _ in ranks.together(range(10)):
            type(self).taken += 1


def test_followers_carry_jobs_out_and_stop_where_the_leader_does() -> None:
    @ranks.led
    def lead() -> str:
        for _ in range(2):
            ranks.assemble(_Count())
            steps: Iterator[int] = ranks.together(range(10))
            for step in steps:
                if step == 2:
                    break
        return "done"

    assert in_processes(3, lambda: (lead(), _Count.taken)) == [("done", 0), ("done", 6), ("done", 6)]


class _Diverge:
    def __call__(self) -> None:
        raise TrainingError("not a number")


@pytest.mark.parametrize("in_job", [False, True])
def test_an_error_of_the_leader_ends_all(in_job: bool) -> None:
    @ranks.led
    def lead() -> None:
        if in_job:
            ranks.assemble(_Diverge())
        raise RecipeError("bad")

    def act() -> str:
        try:
            lead()
        except (RecipeError, RankError) as error:
            return f"{type(error).__name__}: {error.problem}"
        return "nothing"

    assert in_processes(2, act) == ["RecipeError: bad", "RankError: The first process of this training has failed"]


def test_a_run_that_was_begun_is_known_to_the_processes_that_follow(tmp_path: Path) -> None:
    """torchrun keeps its store; here the first process does."""

    def act() -> tuple[bool, bool, bool]:
        before = ranks.was_begun(tmp_path)
        ranks.told(None)
        ranks.began(tmp_path)
        return before, ranks.was_begun(tmp_path), ranks.was_begun(tmp_path / "other")

    assert in_ranks(2, act) == [(False, True, False)] * 2
    ranks.began(tmp_path)
    assert not ranks.was_begun(tmp_path)  # alone


def test_the_leader_stops_when_torchrun_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(ranks, "_group", ranks._Group(0, 2, None, None))
    monkeypatch.setattr(ranks.os, "kill", lambda *signal_: sent.append(signal_))
    ranks._outlive(os.getppid() + 1)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    monkeypatch.setattr(ranks, "_group", None)
    ranks._outlive(os.getppid() + 1)  # the training is over
    assert len(sent) == 1


class _Die:
    def __call__(self) -> None:
        raise SystemExit(1)


def test_of_a_leader_that_is_gone_one_follower_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_LAST_WORD", 0.0)
    words = torch.distributed.HashStore()

    def speaks(rank: int, words: object) -> bool:
        monkeypatch.setattr(ranks, "_group", ranks._Group(rank, 3, None, None, words=words))
        return ranks._speaks_for_all()

    assert [speaks(rank, words) for rank in (2, 1)] == [True, False]
    words = torch.distributed.HashStore()
    words.add("ended", 1)  # it has ended of itself, and says why
    assert [speaks(rank, words) for rank in (2, 1)] == [False, False]

    class Gone:
        def check(self, keys: list[str]) -> bool:
            raise RuntimeError("Broken pipe")

    assert [speaks(rank, Gone()) for rank in (2, 1)] == [False, True]
    assert not speaks(1, None)


class _Meet:
    def __call__(self) -> None:
        ranks.told(None)


def test_a_leader_that_is_killed_is_told_of() -> None:
    @ranks.led
    def lead() -> None:
        ranks.assemble(_Meet())
        ranks.told(None)  # before all have come together, torchrun would have to tell
        os.kill(os.getpid(), signal.SIGKILL)

    def act() -> str:
        try:
            lead()
        except RankError as error:
            return type(error).__name__
        return ""

    assert answers_of(3, act) == [(False, "no answer"), (True, "LeaderlessError"), (True, "RankError")]


def test_the_leader_hears_of_a_follower_that_ends() -> None:
    @ranks.led
    def lead() -> None:
        ranks.assemble(_Die())
        ranks.told(None)

    def act() -> str:
        started = time.monotonic()
        try:
            lead()
        except (RankError, SystemExit) as error:
            return f"{type(error).__name__} {time.monotonic() - started < 60}"
        return "nothing"

    assert in_processes(2, act) == ["RankError True", "SystemExit True"]
