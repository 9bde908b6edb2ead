"""`fieldmark explain`: what is written, and what happens when something is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.answering.explaining.examples import Known
from fieldmark.answering.explaining.explainer import Explainer
from fieldmark.answering.things import Thing
from fieldmark.core.reading import read_json
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run

Cli = Callable[..., Any]


@pytest.fixture
def photograph(pictures: Path) -> Path:
    return pictures / "amber" / "03.png"


def test_a_picture_and_its_figures(cli: Cli, trained: Run, photograph: Path, tmp_path: Path) -> None:
    answer = fieldmark.predict(trained.folder, [str(photograph)])
    (verdict,) = answer
    label = verdict.label
    rival = next(name for name in ("plum", "jade", "amber") if name != label)
    answer = cli("explain", trained.folder, photograph, "--versus", f"{rival.upper()} ", "--out", tmp_path)
    assert answer.status == 0
    assert f"{label} " in answer.out
    assert f"not {rival}" in answer.out
    stem = f"{photograph.stem} not {rival}"
    with Image.open(tmp_path / f"{stem}.png") as picture:
        assert picture.size > (1000, 500)
    values = read_json(tmp_path / f"{stem}.json", dict[str, Any])
    assert (values["first"], values["second"]) == (label, rival)
    assert values["verdict"] == verdict.as_dict()
    log_odds = np.log(values["probabilities"][0] / values["probabilities"][1])
    assert values["margin"] == pytest.approx(log_odds, abs=1e-2)
    decided, against = (np.array(values["evidence"][name]) for name in ("against_all", "against_second"))
    assert decided.shape == against.shape
    assert np.abs(decided).max() > 0
    assert abs(values["evidence"]["gap"]) < 0.5 * np.abs(against).sum()
    for region in values["regions"]:
        assert np.array(region["cells"]).shape == against.shape
        assert 0 < region["share"] <= 1
        assert len(region["second"]) == 3
        assert all(one["path"].startswith(rival) for one in region["second"])
        assert all(one["path"] != "amber/03.png" for one in region["first"])  # nothing explains itself
        assert region["as_second"]["change"] == pytest.approx(
            region["as_second"]["margin"] - values["margin"], abs=1e-3
        )
    again = ("explain", trained.folder, photograph, "--versus", rival, "--out", tmp_path)
    assert cli(*again).status == 0  # it replaces what it wrote, and nothing else
    shutil.copy(photograph, tmp_path / f"{stem}.png")
    answer = cli(*again)
    assert (answer.status, answer.err.splitlines()[-1]) == (
        2,
        f"fieldmark: {tmp_path / stem}.png is in the way: Fieldmark did not write it, and does not replace it. "
        "Move it, or choose another --out.",
    )
    assert (tmp_path / f"{stem}.png").read_bytes() == photograph.read_bytes()


def test_known_images_are_looked_at_once(trained: Run, photograph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fieldmark.explain(trained.folder, photograph)
    kept = sorted((trained.folder / "explanations" / "known").iterdir())
    assert len(kept) == 2
    monkeypatch.setattr(Explainer, "_looked_at", lambda *_: pytest.fail("looked again"))
    again = fieldmark.explain(trained.folder, photograph)
    assert again.as_dict() == first.as_dict()
    kept[0].write_bytes(b"damaged")
    monkeypatch.undo()
    assert fieldmark.explain(trained.folder, photograph).as_dict() == first.as_dict()


def test_nothing_explains_itself(trained: Run, pictures: Path, tmp_path: Path) -> None:
    """Neither through a link, nor as a copy of another name, nor as bytes."""
    row = next(row for row in trained.images() if row["split"] == "train" and row["label"] == "amber")
    photograph = pictures / row["path"]
    (tmp_path / "link").symlink_to(pictures, target_is_directory=True)
    (tmp_path / "one.png").symlink_to(photograph)
    copy = Path(shutil.copy(photograph, tmp_path / "copy.png"))
    linked = tmp_path / "link" / row["path"]
    for root in (None, tmp_path / "link"):
        explainer = Explainer(trained.folder, root=root)
        for thing in (photograph, linked, tmp_path / "one.png", copy, photograph.read_bytes()):
            found = explainer(thing, None if explainer(thing).first == "amber" else "amber")
            assert found.regions
            for region in found.regions:
                assert row["path"] not in {one.path for one in (*region.first, *region.second)}
    other = tmp_path / "other.png"
    Image.new("RGB", (96, 96), "orange").save(other)
    known = explainer.known("amber")
    assert known is not None
    assert row["path"] in known.paths
    assert explainer._same(Thing("other", other), (known,)) == set()
    before = replace(known, pictures=("",) * len(known.paths))  # a run of an earlier version knows no contents
    assert explainer._same(Thing("linked", linked), (before, None)) == {row["path"]}


def test_known_images_are_those_of_this_model(trained: Run, photograph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it is: another one may have been copied to its place with its time."""
    fieldmark.explain(trained.folder, photograph)
    looked = Explainer._looked_at
    asked: list[str] = []

    def look(self: Explainer, label: str) -> Known | None:
        asked.append(label)
        return looked(self, label)

    monkeypatch.setattr(Explainer, "_looked_at", look)
    for file in trained.bundle.iterdir():
        os.utime(file, (1, 1))
    fieldmark.explain(trained.folder, photograph)
    assert asked == []
    monkeypatch.setattr(Bundle, "state", "another")
    fieldmark.explain(trained.folder, photograph)
    assert len(asked) == 2


def test_training_images_that_are_gone_are_left_out(trained: Run, photograph: Path, tmp_path: Path) -> None:
    own = shutil.copy(photograph, tmp_path / "own.png")
    data = read_json(trained.folder / "data.json", dict[str, Any])
    (trained.folder / "data.json").write_text(
        (trained.folder / "data.json").read_text().replace(data["root"], str(tmp_path / "nowhere"))
    )
    found = fieldmark.explain(trained.folder, own)
    assert "cannot be found" in found.notes[0]
    assert all(one.second == () and one.as_second is None for one in found.regions)
    assert found._repr_png_().startswith(b"\x89PNG")
    moved = fieldmark.explain(trained.folder, own, root=data["root"])
    assert moved.notes == ()
    assert all(one.second for one in moved.regions)


def test_a_bundle_alone_explains_without_examples(trained: Run, photograph: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(trained.bundle, tmp_path / "shipped")
    found = fieldmark.explain(bundle, photograph)
    assert "A bundle alone has no training images" in found.notes[0]
    assert found.png().startswith(b"\x89PNG")


def test_what_cannot_be_explained(cli: Cli, trained: Run, photograph: Path, tmp_path: Path) -> None:
    label = fieldmark.Predictor.load(trained.folder).predict([photograph])[0].label
    complaint = cli("explain", trained.folder, photograph, "--versus", "jadde").complaint
    assert complaint == "This model has no class 'jadde'. Did you mean 'jade'?"
    complaint = cli("explain", trained.folder, photograph, "--versus", label).complaint
    assert complaint.startswith(f"The answer is {label!r} itself")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    assert "bad.jpg is not an image" in cli("explain", trained.folder, tmp_path / "bad.jpg").complaint
    assert "does not exist" in cli("explain", trained.folder, tmp_path / "absent.jpg").complaint
    assert "neither a finished run nor a bundle" in cli("explain", tmp_path, photograph).complaint


def test_the_report_explains_confused_pairs(trained: Run) -> None:
    evaluation = fieldmark.evaluate(trained.folder)
    page = fieldmark.report(trained.folder).read_text(encoding="utf-8")
    assert evaluation.confused
    pair = evaluation.confused[0]
    either = (f"What tells {a} from {b}" for a, b in ((pair.first, pair.second), (pair.second, pair.first)))
    assert any(title in page for title in either)
    assert len(page) < 20e6
