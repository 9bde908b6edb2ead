"""`fieldmark draw`, and the drawn birds as data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fieldmark

Cli = Callable[..., Any]

SMALL = ("--species", 3, "--images", 8, "--size", 64)


def test_draw_train_evaluate_predict(tmp_path: Path, cli: Cli, tiny: Callable[..., list[str]]) -> None:
    birds, run = tmp_path / "birds", tmp_path / "run"
    answer = cli("draw", birds, *SMALL)
    assert answer.status == 0
    assert answer.err == f"Drew 3 species into {birds}. To look at them, open {birds}/guide.html\n"
    assert (birds / "guide.png").is_file()
    catalog = fieldmark.read(birds)
    assert (len(catalog), len(catalog.classes)) == (24, 3)
    assert catalog.boxes is not None
    assert catalog.keypoints is not None
    assert cli("train", birds, *tiny(), "--out", run).status == 0
    answer = cli("evaluate", run)
    assert answer.status == 0
    assert f"The test split, {len(catalog.rows('test'))} images" in answer.out
    answer = cli("predict", run, birds / "images" / catalog.classes[0], "--format", "json")
    assert len(answer.out.splitlines()) == 8


def test_drawing_again_and_otherwise(tmp_path: Path, cli: Cli) -> None:
    birds = tmp_path / "birds"
    assert cli("draw", birds, *SMALL).status == 0
    before = {path: path.stat().st_mtime_ns for path in birds.rglob("*")}
    assert cli("draw", birds, *SMALL).status == 0
    assert str(birds) in cli("draw", birds, *SMALL, "--seed", 1).complaint
    assert {path: path.stat().st_mtime_ns for path in birds.rglob("*")} == before


def test_options_that_make_no_sense(tmp_path: Path, cli: Cli) -> None:
    birds = tmp_path / "birds"
    assert "Choose a value from 2 to " in cli("draw", birds, "--species", 1).complaint
    assert cli("draw", birds, "--images", "many").complaint.endswith("See fieldmark draw --help.")
    assert "'free', 'tied'" in cli("draw", birds, "--habitat", "loose").complaint
    assert not birds.exists()


def test_a_file_in_the_way(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "file").write_text("")
    complaint = cli("draw", tmp_path / "file", *SMALL).complaint
    assert str(tmp_path / "file") in complaint


def test_a_guide_for_another_trade(tmp_path: Path, cli: Cli) -> None:
    birds = tmp_path / "birds"
    options = ("--kind", "mirror", "--species", 4, "--images", 8, "--size", 64)
    answer = cli("draw", birds, *options, "--unknown", 2, "--noise", 0.2, "--duplicates", 0.5, "--long-tail", 3)
    assert answer.status == 0
    assert "Draw it and train on it" in (birds / "guide.html").read_text(encoding="utf-8")
    assert len(fieldmark.read(birds).classes) == 4
    assert len(fieldmark.read(birds / "unknown").classes) == 2


def test_options_that_do_not_go_together(tmp_path: Path, cli: Cli) -> None:
    birds = tmp_path / "birds"
    assert "Choose an even number" in cli("draw", birds, "--kind", "mirror", "--species", 5).complaint
    assert "its classes are not species" in cli("draw", birds, "--kind", "stages", "--long-tail", 5).complaint
    assert "'mirror'" in cli("draw", birds, "--kind", "miror").complaint
    assert not birds.exists()
