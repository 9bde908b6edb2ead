"""`benchmarks/recipe_study.py` and `benchmarks/paired.py`: the smallest run of each, on drawings."""

from __future__ import annotations

import importlib
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.comparison import Result

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SETS = ("CUB-50", "Flowers-102", "Cars-60")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The study's command, with one epoch of small batches in each row."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("recipe_study")
    monkeypatch.setattr(script, "BATCH", 8)
    monkeypatch.setattr(script, "ROWS", {name: row | {"epochs": 1} for name, row in script.ROWS.items()})

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["recipe_study.py", *map(str, arguments)])
        script.main()

    return run


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three sets, drawn: tints, of which the flowers alone have a validation split."""
    random = np.random.default_rng(0)
    rows = ["path,label,split"]
    for place, splits in (("CUB_200_2011_first50", "train"), ("flowers-102", "train val"), ("cars-60", "train")):
        for name, colour in {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}.items():
            for split in splits.split():
                folder = tmp_path / "data" / place / split / name
                folder.mkdir(parents=True)
                for number in range(6):
                    pixels = np.clip(colour + random.normal(0, 30, (40, 48, 3)), 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number}.png")
                    if place == "cars-60":
                        rows.append(f"{split}/{name}/{number}.png,{name},{split}")
    (tmp_path / "data" / "cars-60" / "cars.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setenv("FIELDMARK_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_the_recipe_study(
    run: Callable[..., None], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack, out = tmp_path / "pack.npz", tmp_path / "out"
    run("pack", pack)
    run("probes", pack, out, "tf_efficientnet_lite0", "--size", 32)
    run("run", pack, out, "reference", "unit head", "--size", 32)
    files = {file: json.loads(file.read_text()) for file in out.glob("*.json")}
    probed = {one["set"]: one for file, one in files.items() if file.name.startswith("probe-")}
    trained = {(one["row"], one["set"]): one for one in files.values() if "row" in one}
    assert set(probed) == set(SETS)
    assert all(one["top1"]["unit"] == 1 for one in probed.values()), "nobody can miss these tints"
    assert set(trained) == {(row, name) for row in ("reference", "unit head") for name in SETS}
    assert {one["set"]: (one["learnt_from"], one["scored"]) for one in trained.values()} == {
        "CUB-50": (12, 6), "Flowers-102": (18, 18), "Cars-60": (12, 6)
    }  # fmt: skip
    for one in trained.values():
        assert all(0 <= way["mirrored"] <= 1 for way in one["ways"].values())
    made = {file: file.stat().st_mtime_ns for file in files}
    run("run", pack, out, "reference", "--size", 32)
    assert {file: file.stat().st_mtime_ns for file in out.glob("*.json")} == made, "what is there is passed over"
    capsys.readouterr()
    run("show", out)
    table = capsys.readouterr().out.splitlines()
    (against,) = (line for line in table if line.startswith("| reference (1) | last 0.875, single |"))
    assert "+0.0 (+0.0 to +0.0)" in against
    assert any(line.startswith("| unit head (1) | ema 0.875, 0.3 kept, mirrored |") for line in table)


def test_results_beside_each_other(
    made_up: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(shutil.copy(BENCHMARKS / "paired.py", tmp_path))
    gains: list[float] = []
    for at, name in enumerate(("cub", "flowers102", "cars60")):
        folder = tmp_path / "results" / "few" / f"{name}-3"
        runs: dict[tuple[str, int], Result] = {}
        for recipe, share in {"probe": 0.5, "finetune": 0.7 + at / 10}.items():
            for seed in (0, 1):
                one = made_up(recipe, seed, right=share, num=200)
                one.save(folder / f"{recipe}-{seed}.json")
                runs[recipe, seed] = one
        gains.append(
            100 * float(np.mean([runs["finetune", s].correct.mean() - runs["probe", s].correct.mean() for s in (0, 1)]))
        )
    monkeypatch.setattr(sys, "argv", ["paired.py", "few", "3"])
    runpy.run_path(str(script), run_name="__main__")
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[:2] for row in rows] == [
        [f"| {name}", f"`{recipe}`"] for name in ("cub", "flowers102", "cars60") for recipe in ("probe", "finetune")
    ] + [["| all three, mean", "`finetune`"]]
    for row, gain in zip([*rows[1:6:2], rows[6]], [*gains, np.mean(gains)], strict=True):
        assert f"{gain:+.1f} (" in row
    assert all("1 (cpu)" in row for row in rows[:6]), "sixty seconds"
