"""`fieldmark bundle`: the model card, a copy to pass on, and whether one that came is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fieldmark.commands.bundle import bundle
from fieldmark.commands.enrol import enrol
from fieldmark.commands.evaluate import evaluate
from fieldmark.core.errors import RunError, StorageError
from fieldmark.reporting.card import card
from fieldmark.reporting.gathering import gathered
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run

Cli = Callable[..., Any]


def test_the_card_says_what_was_measured(trained: Run) -> None:
    result = evaluate(trained.folder, split="val")
    bundle(trained.folder)
    text = (trained.bundle / "README.md").read_text()
    assert text.startswith('---\nlicense: "other"\nlibrary_name: "fieldmark"\n')
    assert "Tells 3 classes of things that look alike apart: amber, jade, plum." in text
    assert f"| validation split | {result.num_images} | {result.scores['top1']} |" in text
    assert "No test images were scored" in text
    assert "## Where it is weakest (validation split)" in text
    assert "licence: none" in text
    assert "It must not decide alone" in text


def test_it_does_not_claim_what_was_not_measured(trained: Run, pictures: Path) -> None:
    run, found = gathered(trained.folder, None), Bundle.load(trained.folder)
    assert "Nothing was scored" in card(gathered(trained.folder, None), found) or run.splits
    evaluate(trained.folder, split="val")
    enrol(trained.folder, "teal <b>|x", pictures / "jade")
    text = card(gathered(trained.folder, None), Bundle.load(trained.folder))
    assert "measured before classes were enrolled" in text
    assert "teal \\<b\\>\\|x (14)" in text


def test_a_copy_is_whole(trained: Run, tmp_path: Path, cli: Cli) -> None:
    (trained.bundle / "notes.txt").write_text("mine")
    answer = cli("bundle", trained.folder, "--out", tmp_path / "shipped")
    assert answer.status == 0
    assert "3 classes, calibrated, more can be enrolled" in answer.out
    assert not (tmp_path / "shipped" / "notes.txt").exists()
    assert cli("bundle", tmp_path / "shipped", "--check").out.startswith(str(tmp_path / "shipped"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("")
    with pytest.raises(StorageError, match="mine"):
        bundle(trained.folder, out=tmp_path / "mine")
    with pytest.raises(RunError, match="A check writes nothing"):
        bundle(trained.folder, out=tmp_path / "other", check=True)


def test_a_copy_is_replaced_as_a_whole(trained: Run, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "shipped"
    bundle(trained.folder, out=out)
    before = sorted(path.name for path in out.iterdir())
    plain = shutil.copytree(out, tmp_path / "plain", ignore=shutil.ignore_patterns(".fieldmark"))
    enrol(trained.folder, "teal", pictures / "jade")
    bundle(trained.folder, out=out)
    assert any(path.name.startswith("enrolled") for path in out.iterdir())
    bundle(plain, out=out)
    assert sorted(path.name for path in out.iterdir()) == before
    for place in (out, tmp_path):
        with pytest.raises(RunError, match="holds the bundle that is to be copied"):
            bundle(out, out=place)


@pytest.mark.parametrize("name", ["model.safetensors", "calibration.safetensors", "held.safetensors", "model.json"])
def test_damage_is_found(trained: Run, name: str) -> None:
    data = bytearray((trained.bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (trained.bundle / name).write_bytes(bytes(data))
    with pytest.raises(RunError, match=r"is damaged|cannot be read"):
        bundle(trained.folder, check=True)
