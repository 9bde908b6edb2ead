"""`fieldmark bench`: how fast a recipe is here, where the time goes, and what limits it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fieldmark
from fieldmark.core.listener import Advanced
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe
from fieldmark.learning.fitting.limits import Bench
from fieldmark.learning.fitting.speed import Answering, Learning, Pictures, Speed
from support.commands import Cli, settings
from support.hearing import Heard

STAGES = {"images": 0.0, "batch": 0.02, "forward": 0.3, "backward": 0.6, "optimiser": 0.08, "rest": 0.0}


def found(
    stages: dict[str, float] | None = None,
    *,
    ratio: float = 0.97,
    kept: float = 1.0,
    pixels: float = 0.001,
    writable: bool = True,
) -> Bench:
    """A bench that came out so."""
    learning = Learning(32, 600, 20, 10, 1.0, (ratio, ratio - 0.01, ratio + 0.01), STAGES | (stages or {}))
    pictures = Pictures(0.008, pixels, 0.002, kept, writable)
    machine = Machine("cpu", 2, 0, "fp32")
    return Bench(Recipe(), machine, Speed(pictures, Answering(0.01, 0.002), learning), 100, {"process": 10**9}, {})


def test_the_steps_of_a_training_are_measured(pictures: Path) -> None:
    one = fieldmark.bench(
        pictures, "walkthrough", overrides=settings(train__epochs="2", train__ema="true"), seconds=0.3
    )
    learning, answering = one.speed.learning, one.speed.answering
    assert learning is not None
    assert (learning.num_epochs, learning.num_steps) == (2, 2 * (42 // 32 or 1))
    assert len(learning.ratios) >= 3
    assert learning.num_timed >= len(learning.ratios)
    assert min(learning.step, learning.bare, answering.view, one.speed.pictures.file) > 0
    assert set(learning.stages) == set(STAGES)
    assert min(learning.stages.values()) >= 0
    assert sum(learning.stages.values()) == pytest.approx(learning.step, rel=0.5)
    assert set(one.seconds) == {*STAGES, "validating"}
    assert one.validated > 0
    assert one.speed.pictures.kept == 1
    assert one.limit.endswith(".")


def test_it_says_beforehand_how_long_it_takes(pictures: Path) -> None:
    heard = Heard()
    fieldmark.bench(pictures, "walkthrough", overrides=settings(), seconds=0.1, listener=heard)
    assert "this takes up to about 40 s, and longer beside other work" in heard.notes[0]
    began = [event.stage for event in heard.events if isinstance(event, Advanced) and event.done == 0]
    assert began[-2:] == ["Measuring steps", "Measuring answers"], "a bar is there from the beginning"


def test_nothing_is_written_beside_the_cache(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    fieldmark.bench(pictures, "walkthrough", overrides=settings(), seconds=0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_cache_that_cannot_be_written_is_noticed(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "file"))
    one = fieldmark.bench(pictures, "walkthrough", overrides=settings(), seconds=0.1)
    assert one.speed.pictures.kept == 0
    assert not one.speed.pictures.writable


def test_a_probe_takes_no_steps(pictures: Path) -> None:
    overrides = [*settings(), "train.solver=logistic", "train.batchnorm=plain"]
    one = fieldmark.bench(pictures, "probe", overrides=overrides, seconds=0.1)
    assert one.speed.learning is None
    assert one.seconds == {}
    assert "nothing is learnt step by step" in one.limit


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (
            found(),
            "The network limits training: the loop reaches 97 % of the bare step, and 60 % of a step is back",
        ),
        (found({"images": 0.5}, ratio=0.6), "Augmentation limits training: waiting for pictures is 33 % of a step"),
        (found({"images": 0.5}, ratio=0.6, pixels=0.02), "Reading pixels limits training"),
        (
            found({"images": 0.5}, ratio=0.6, pixels=0.02, kept=0.4),
            "60 % of the images are not kept (raise images",
        ),
        (
            found({"images": 0.5}, ratio=0.6, pixels=0.02, kept=0.0, writable=False),
            "cannot be written; the environment variable FIELDMARK_CACHE names another folder): waiting",
        ),
        (
            found(ratio=0.8),
            "Pictures are there in time, but the loop reaches 80 % of the bare step; preparing",
        ),
        (replace(found(), validated=10_000), "Validating is 77 % of a training; train.validate_epochs=false"),
    ],
)
def test_what_limits_is_said_as_it_was_measured(one: Bench, said: str) -> None:
    assert said in one.limit


def test_a_busy_machine_is_told_of() -> None:
    one = found()
    assert one.speed.learning is not None
    assert "rounds differ" not in one.limit
    learning = replace(one.speed.learning, ratios=(0.8, 0.95, 1.3))
    busy = replace(one, speed=replace(one.speed, learning=learning))
    assert busy.limit.endswith("But rounds differ, from 80 % to 130 %: measure again while nothing else runs.")


def test_table_and_json(cli: Cli, pictures: Path, tiny: Callable[..., list[str]]) -> None:
    out = cli("bench", pictures, *tiny(), "--seconds", "0.1").out
    for text in ("waiting for pictures", "backward", "Bare step", "Answering: ", "Memory, at most: "):
        assert text in out
    found = json.loads(cli("bench", pictures, *tiny(), "--seconds", "0.1", "--format", "json").out)
    assert found["backbone"] == "test_resnet"
    assert found["learning"]["ratio"] > 0
    assert found["learning"]["images_per_second"] > 0
    assert found["machine"]["threads"] == torch.get_num_threads()


def test_a_recipe_that_makes_no_sense_is_refused_before_data_is_read(cli: Cli, pictures: Path) -> None:
    assert "no recipe" in cli("bench", pictures, "--recipe", "finetunes").complaint.lower()
