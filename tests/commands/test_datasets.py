"""`fieldmark datasets`, and `--root` of the commands that take data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fieldmark.data.sets import DATASETS
from fieldmark.runs.run import Run

Cli = Callable[..., Any]


@pytest.fixture
def food(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with Food-101 in small, made of the drawn pictures; the working folder is another."""
    root = tmp_path / "root"
    listed: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for file in sorted(pictures.rglob("*.png")):
        part, dish = "train" if int(file.stem) < 10 else "test", f"{file.parent.name}_pie"
        image = root / "food-101" / "images" / dish / f"{file.stem}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).convert("RGB").save(image)
        listed[part].setdefault(dish, []).append(f"{dish}/{file.stem}")
    (root / "food-101" / "meta").mkdir()
    for part, images in listed.items():
        (root / "food-101" / "meta" / f"{part}.json").write_text(json.dumps(images))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    return root


def test_a_run_on_a_named_set_is_evaluated_without_naming_anything(
    food: Path, cli: Cli, tiny: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = cli("train", "food101", "--root", food, *tiny())
    assert answer.status == 0, answer.err
    run = Run(tmp_path / "work" / "runs" / "food101")
    assert run.data()["source"] == str(food / "food-101")
    assert run.data()["classes"] == ["amber pie", "jade pie", "plum pie"]
    assert run.data()["counts"]["test"] == 12
    monkeypatch.chdir(tmp_path)
    assert "The test split, 12 images" in cli("evaluate", run.folder).out
    named = cli("evaluate", run.folder, "food101", "--root", food, "--split", "val")
    assert f"The val split, {run.data()['counts']['val']} images" in named.out  # cut by the run, so the run's own data
    for again in ((), ("food101", "--root", food)):  # the page knows the catalogue: it is no folder of class folders
        written = cli("report", run.folder, *again)
        assert written.status == 0, written.err
        assert "warning" not in written.err
        assert "amber_pie" in (run.folder / "report" / "index.html").read_text()
    path = cli("evaluate", run.folder, food / "food-101", "--split", "val")
    assert path.out.splitlines()[:8] == named.out.splitlines()[:8]


def test_a_resume_takes_the_root_again(food: Path, cli: Cli, tiny: Callable[..., list[str]]) -> None:
    for _ in range(2):
        assert cli("train", "food101", "--root", food, *tiny(), "--resume").status == 0


def test_the_list(food: Path, cli: Cli) -> None:
    answer = cli("datasets", "--root", food)
    assert answer.status == 0
    assert max(map(len, answer.out.splitlines())) <= 80
    for dataset in DATASETS.values():
        assert dataset.name in answer.out
        assert f"{dataset.num_images:,}" in answer.out
        assert f"{dataset.download_gb:g} GB" in answer.out
        assert dataset.terms.split(";")[0].split()[0] in answer.out
    assert answer.out.count("copy: not found") == len(DATASETS) - 1


def test_the_list_for_programs(food: Path, cli: Cli) -> None:
    (food / "flowers-102").mkdir()
    (food / "flowers-102" / "setid.mat").touch()
    listed = {entry["name"]: entry for entry in json.loads(cli("datasets", "--root", food, "--format", "json").out)}
    assert listed.keys() == DATASETS.keys()
    assert listed["food101"]["copy"] == str(food / "food-101")
    assert (listed["cub"]["copy"], listed["cub"]["downloaded_by_fieldmark"]) == (None, False)
    assert listed["flowers102"]["copy"] is None
    assert "jpg/, imagelabels.mat are missing" in listed["flowers102"]["problem"]
    said = cli("datasets", "--root", food).out
    assert "copy: incomplete" in said
    assert listed["flowers102"]["problem"] in said


def test_names_and_roots_that_are_wrong_leave_no_run(food: Path, cli: Cli, tiny: Callable[..., list[str]]) -> None:
    assert "Did you mean 'food101'?" in cli("train", "fod101", "--root", food, *tiny()).complaint
    assert "its official download is gone" in cli("train", "stanford_cars", "--root", food, *tiny()).complaint
    (food / "food-101" / "meta" / "test.json").unlink()
    assert "incomplete: meta/test.json is missing" in cli("train", "food101", "--root", food, *tiny()).complaint
    assert not list(Path("runs").glob("*"))
