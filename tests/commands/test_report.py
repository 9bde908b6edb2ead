"""`fieldmark report` and `fieldmark.show`: what is on the page, and what happens when something is missing."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.core.errors import DataError, DataWarning, RunError
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import read_rows
from fieldmark.data.catalog import Catalog
from fieldmark.runs.record import Answers, score_answers, write_evaluation
from fieldmark.runs.run import Run

Cli = Callable[..., Any]
SHORT = ["backbone.name=test_resnet", "backbone.weights=none", "images.size=32", "train.epochs=2"]
MACHINE = Machine("cpu", 1, 0, "fp32")


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self.feed(self.html)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self._texts.append(data)

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] or "" for tag, attributes in self.tags if tag == "section"]

    @property
    def pictures(self) -> int:
        return sum(tag == "img" for tag, _ in self.tags)


UNFINISHED = pytest.mark.filterwarnings("ignore:.* is not finished")  # a run that is made up has no bundle


def made_up(folder: Path, classes: list[str], *, each: int = 3, side: int = 40) -> Run:
    """A run whose model knows nothing: its test part was answered by chance. All pictures are noise."""
    root = folder / "data"
    root.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "noise.png")
    paths = [f"{k}/{name.replace('/', '_')[:20]} {i}.png" for k, name in enumerate(classes) for i in range(each)]
    for path in paths:
        (root / path).parent.mkdir(exist_ok=True)
        os.link(root / "noise.png", root / path)
    labels = np.repeat(np.arange(len(classes)), each)
    splits = np.tile(["train", *["test"] * (each - 1)], len(classes))
    catalog = Catalog("made up", root, tuple(paths), labels, tuple(classes), splits, np.full(len(paths), ""))
    run = Run.create(folder / "run", Recipe(), MACHINE)
    run.write_data(root, catalog, np.zeros(len(catalog), np.uint64))
    rows = catalog.rows("test")
    logits = np.random.default_rng(1).normal(size=(len(rows), len(classes))).astype(np.float32)
    answers = Answers(catalog, rows, logits, np.arange(len(rows)))
    write_evaluation(run.evaluation("test"), score_answers("test", answers), answers)
    return run


def test_the_page_of_a_run(trained: Run, cli: Cli) -> None:
    fieldmark.evaluate(trained.folder)
    answer = cli("report", trained.folder, columns=200)
    assert answer.status == 0
    path = trained.folder / "report" / "index.html"
    assert f"Wrote {path}" in answer.err
    page = Page(path)
    right = fieldmark.evaluate(trained.folder, split="test").scores["top1"]
    assert f"{100 * right.value:.1f} %" in page.text
    assert "This page shows the test split (6 images), which was not used in training." in page.text
    for section in ("scores", "learning", "predictions", "mistakes", "classes", "data", "time", "model"):
        assert section in page.sections
    assert page.pictures >= 6 + 3  # the answers, and one of each class
    assert sum(attributes.get("class") in ("is-right", "is-wrong") for _, attributes in page.tags) >= 6
    assert sum(tag == "svg" for tag, _ in page.tags) == 4  # loss, validation accuracy, reliability, risk
    assert "The data came without splits and was split class by class" in page.text
    assert "training steps" in page.text
    assert "test_resnet" in page.text


@UNFINISHED
def test_verdicts_that_say_less_are_shown(tmp_path: Path) -> None:
    """Of three verdicts on images of class "a", one names it, one names the genus only, and one gives no answer."""
    classes = ["a", "b"]
    run = made_up(tmp_path, classes, each=4)
    predictions = run.evaluation("test") / "predictions.csv"
    header, *rows = predictions.read_text().splitlines()
    said = [("a", "species", 0.95), ("A", "genus", 0.95), ("", "none", "")]
    told = [f"{','.join(row.split(',')[:2])},a,0.9,{int(',a,' in row)},0.9" for row in rows[:3]]
    lines = [f"{row},{name},{level},{promised}" for row, (name, level, promised) in zip(told, said, strict=True)]
    predictions.write_text("\n".join([f"{header},name,level,promised", *lines]) + "\n")
    page = Page(fieldmark.report(run.folder, out=tmp_path / "page.html"))
    assert "The verdict names the predicted class in 1 of 3 cases where that class is correct. " in page.text
    assert page.text.count("verdict: A (genus)") == 1
    assert page.text.count("not vouched for") == 1


def test_the_page_is_whole_and_repeats(trained: Run, tmp_path: Path) -> None:
    first = fieldmark.report(trained.folder, out=tmp_path / "a.html").read_bytes()
    assert fieldmark.report(trained.folder, out=tmp_path / "b.html").read_bytes() == first
    page = Page(tmp_path / "a.html")
    addresses = [a[key] or "" for _, a in page.tags for key in ("src", "href", "xlink:href") if key in a]
    assert addresses
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert not re.search(r"@import|url\(\s*['\"]?(https?:|//)|<script", page.html)


def test_which_split_is_shown(trained: Run, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    page = Page(fieldmark.report(trained.folder, out=out))
    assert "This page shows the validation split (6 images)" in page.text
    assert f"To score the test split: fieldmark evaluate {trained.folder}" in page.text
    assert "train val" in page.text
    assert "train val test" not in page.text  # the labels of a test split that was not scored stay unread
    fieldmark.evaluate(trained.folder)
    page = Page(fieldmark.report(trained.folder, out=out))
    assert "This page shows the test split" in page.text
    assert "train val test" in page.text
    page = Page(fieldmark.report(trained.bundle, out=out, split="val"))  # a bundle stands for the run around it
    assert "This page shows the validation split" in page.text
    with pytest.raises(RunError) as caught:
        fieldmark.report(trained.folder, split="train")
    assert str(caught.value) == (
        f"{trained.folder} has no predictions for the split 'train'. "
        f"Run `fieldmark evaluate {trained.folder} --split train` first. Evaluated so far: test, val."
    )


def test_out_of_fold_answers(pictures: Path, tmp_path: Path, tiny: Callable[..., list[str]], cli: Cli) -> None:
    out = tmp_path / "run"
    assert cli("train", pictures, *tiny(protocol="crossfit", folds="2"), "--out", out).status == 0
    page = Page(fieldmark.report(out))
    assert (
        "out-of-fold answers (36 images). Each image was answered by a model that had not been trained on it"
        in page.text
    )
    assert sum(tag == "svg" for tag, _ in page.tags) == 2  # reliability and loss: nothing is kept for validation
    assert "folds" in page.text


def test_a_soup_is_called_one(pictures: Path, tmp_path: Path) -> None:
    run = fieldmark.train(pictures, out=tmp_path / "run", overrides=[*SHORT, "train.members=2"])
    page = Page(fieldmark.report(run.folder))
    assert "2 trainings of 2 epochs, " in page.text
    assert "The final weights are the mean over their last epochs (a soup)" in page.text
    assert "members" in page.text.split("Training loss")[1]


def test_without_predictions(trained: Run, cli: Cli) -> None:
    shutil.rmtree(trained.folder / "evaluation")
    answer = cli("report", trained.folder, columns=400)
    assert answer.status == 0
    hint = f"fieldmark evaluate {trained.folder}"
    assert f"has no predictions yet, so the report is short. To get them: {hint}" in answer.err
    page = Page(trained.folder / "report" / "index.html")
    assert f"There are no predictions yet, so the sections about them are missing. Run: {hint}" in page.text
    assert page.sections == ["learning", "data", "time", "model"]
    with pytest.raises(RunError, match=f"has no predictions to show. Run `{hint}` first"):
        fieldmark.show(trained.folder)


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Recipe(), MACHINE)
    with pytest.warns(DataWarning, match="is not finished. To continue: .* --resume"):
        page = Page(fieldmark.report(run.folder))
    assert page.sections == ["learning", "model"]
    assert "Training is not finished. To continue: fieldmark train … --out" in page.text


def test_no_run(tmp_path: Path, trained: Run, cli: Cli) -> None:
    assert "is not a run folder" in cli("report", tmp_path).complaint
    (trained.evaluation("val") / "scores.json").write_text("{}")
    assert "cannot be read: there is no key" in cli("report", trained.folder).complaint
    assert "There is nothing at" in cli("report", trained.folder, tmp_path / "absent").complaint


@UNFINISHED
def test_pictures_that_were_moved(tmp_path: Path, cli: Cli) -> None:
    run = made_up(tmp_path, ["kite", "buzzard"], each=4)
    (tmp_path / "data" / "0" / "kite 1.png").unlink()
    with pytest.warns(DataWarning, match="1 of 8 pictures cannot be read, such as 0/kite 1.png"):
        page = Page(fieldmark.report(run.folder))
    assert "1 of 8 pictures can no longer be read" in page.text
    assert "such as 0/kite 1.png" in page.text
    before = page.pictures
    (tmp_path / "data").rename(tmp_path / "moved")
    answer = cli("report", run.folder, columns=400)
    assert answer.status == 0
    assert f"If the data was moved: fieldmark report {run.folder} DATA" in answer.err
    page = Page(run.folder / "report" / "index.html")
    assert page.pictures == 0
    assert "picture not found" in page.text
    assert "The data can no longer be read: There is nothing at" in page.text
    assert cli("report", run.folder, tmp_path / "moved").status == 0
    assert Page(run.folder / "report" / "index.html").pictures == before
    with pytest.raises(DataError):
        fieldmark.report(run.folder, tmp_path / "elsewhere")


@UNFINISHED
def test_markup_in_names_does_nothing(tmp_path: Path) -> None:
    evil = ["<script>alert(1)</script>", "\"'><img src=x onerror=alert(2)>", "</style></svg>{{ 7 * 7 }} $x_1$"]
    run = made_up(tmp_path, evil)
    page = Page(fieldmark.report(run.folder))
    assert "script" not in [tag for tag, _ in page.tags]
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert all((a["src"] or "").startswith("data:") for tag, a in page.tags if tag == "img")
    for name in evil:
        assert name in page.text
    assert fieldmark.show(run.folder, 6)._repr_png_().startswith(b"\x89PNG")


@UNFINISHED
def test_a_thousand_classes(tmp_path: Path) -> None:
    """Noise is what compresses least."""
    run = made_up(tmp_path, [f"species number {k}" for k in range(1000)], side=160)
    path = fieldmark.report(run.folder)
    assert path.stat().st_size < 20e6
    page = Page(path)
    assert page.pictures < 400
    assert f"The 300 worst of 1,000 classes {run.evaluation('test') / 'classes.csv'} has all of them" in page.text
    assert "of the 300 classes with the fewest training images" in page.text
    assert len(read_rows(run.evaluation("test") / "classes.csv", ["class"])) == 1000
    assert sum(tag == "details" for tag, _ in page.tags) == 4
    assert sum(tag == "tr" for tag, _ in page.tags) < 800


def test_slices_of_what_the_data_knows(trained: Run, pictures: Path, tmp_path: Path) -> None:
    fieldmark.evaluate(trained.folder, split="all")
    shutil.rmtree(trained.evaluation("val"))
    catalog = fieldmark.read(pictures)
    small = np.array(["small" if k % 2 else "large" for k in range(42)])
    boxes = np.tile(np.array([2, 2, 20, 10], np.float32), (42, 1)) * (1 + np.arange(42)[:, None] / 40)
    told = Catalog(
        **{**vars(catalog), "attributes": {"feathers": small}, "boxes": boxes.astype(np.float32)},
    )
    page = Page(fieldmark.report(trained.folder, told, out=tmp_path / "page.html"))
    assert "slices" in page.sections
    for text in ("feathers", "small 21", "share of the image inside the box", "up to "):
        assert text in page.text


def test_a_file_of_the_users_own_is_not_replaced(trained: Run, tmp_path: Path, cli: Any) -> None:
    thesis = tmp_path / "thesis.docx"
    thesis.write_bytes(b"ten years of work")
    assert str(thesis) in cli("report", trained.folder, "--out", thesis).complaint
    assert thesis.read_bytes() == b"ten years of work"


def test_nine_predictions_for_a_notebook(trained: Run) -> None:
    figure = fieldmark.show(trained.folder, 9)
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 6  # the validation split has no more
    for title in titles:
        answer = r"([✓✗]) likely (\w+), not vouched for\nactual: (\w+)"  # the images that it was calibrated on
        mark, predicted, actual = re.fullmatch(answer, title).groups()
        assert (mark == "✓") == (predicted == actual)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert [a.get_title() for a in fieldmark.show(trained.folder, 4, seed=1).axes] != titles[:4]


def test_the_tutorial(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines run as they stand, but for the data and the length of the training."""
    text = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    train, read = fieldmark.train, fieldmark.read
    monkeypatch.setattr(fieldmark, "read", lambda name, root: read(pictures), raising=False)
    monkeypatch.setattr(
        fieldmark,
        "train",
        lambda data, recipe, *, out, overrides=(): train(data, recipe, out=out, overrides=[*overrides, *SHORT]),
        raising=False,
    )
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(first, names)
    assert names["run"].recipe().train.optimizer == "adam"
    exec(second, names)
    assert names["run"].recipe().train.optimizer == "adamw"
    assert len(fieldmark.show("runs/finetune", 4).axes) == 4


def test_times_add_up(trained: Run) -> None:
    before = trained.times()
    assert set(before) == {"reading", "training", "evaluating"}
    with trained.timed("evaluating"):
        time.sleep(0.02)  # more than rounding takes away
    assert trained.times()["evaluating"] > before["evaluating"]
    with pytest.raises(ZeroDivisionError), trained.timed("reading"):
        _ = 1 / 0
    (trained.folder / "times.json").write_text("{")
    with trained.timed("reading"):
        pass
    assert set(trained.times()) == {"reading"}
