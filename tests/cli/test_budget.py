"""`fieldmark train --budget`, as it is typed: mistakes are answered before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import Cli


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--budget", "soon"], "'soon' is not a budget. For example: 10m, 1h30m,"),
        (["--budget", "2eur"], "'2eur' is money without a price. Add --price, such as --price 1.20/h."),
        (["--price", "1.20/h"], "A price is for a training within a budget. Add --budget, such as --budget 10m."),
        (["--recipe", "auto"], "The recipe 'auto' is for a training within a budget. Add --budget"),
        (["--budget", "10m", "--set", "protocol=refit"], "the protocol 'refit' holds none out"),
    ],
)
def test_mistakes(typed: list[str], said: str, cli: Cli, pictures: Path, tmp_path: Path) -> None:
    assert said in cli("train", pictures, *typed, "--out", tmp_path / "run").complaint
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_auto_is_what_the_budget_chooses(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    named = ["--backbone", "test_resnet", "--weights", "fieldguide", "--set", "backbone.mean=[0.5, 0.5, 0.5]"]
    out = tmp_path / "run"
    found = cli(
        "train", pictures, "--recipe", "auto", "--budget", "600 images", "--out", out, "--set=images.size=32", *named
    )
    assert found.status == 0, found.err
    assert "Chose a probe of test_resnet at 32 px" in found.err
    assert "of 600 images" in found.err
