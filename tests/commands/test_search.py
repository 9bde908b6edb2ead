"""`fieldmark search`: neighbours, the same file, own groups, contact sheets."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.answering.engine import PartVectorEngine
from fieldmark.answering.things import Skipped, Thing
from fieldmark.core.errors import FieldmarkWarning
from fieldmark.gallery.finding import Found
from fieldmark.runs.run import Run
from support.galleries import gallery_in

Cli = Callable[..., Any]


@pytest.fixture
def indexed(trained: Run, pictures: Path) -> Path:
    """A run with a gallery of three classes in seven bursts of six pictures."""
    table = trained.folder.parent / "bursts.csv"
    files = sorted(pictures.rglob("*.png"))
    rows = [f"{file},{file.parent.name},burst {k // 6}" for k, file in enumerate(files)]
    table.write_text("\n".join(["path,label,group", *rows]))
    fieldmark.index(trained.folder, table)
    return trained.folder


def test_the_nearest_by_hand(indexed: Path, pictures: Path) -> None:
    """Against the embeddings themselves."""
    predictor = fieldmark.Predictor.load(indexed)
    files = sorted(pictures.rglob("*.png"))
    vectors = predictor.embed(files)
    for found in fieldmark.search(predictor, files[:3], most=5):
        assert isinstance(found, Found)
        query = files.index(Path(found.path))
        cosines = vectors @ vectors[query]
        expected = np.argsort(-cosines)[:5]
        assert [hit.similarity for hit in found.hits] == pytest.approx(cosines[expected].tolist(), abs=2e-3)
        assert found.hits[0].entry.path == str(files[query])
        assert found.is_same(found.hits[0])
        assert not any(map(found.is_same, found.hits[1:]))
        assert found.picture.group == f"burst {query // 6}"
        assert f"{found}".startswith(f"Found({files[query]}: 5 neighbours; nearest: ")


def test_the_same_file_is_said_to_be_the_same(indexed: Path, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copy(pictures / "jade/03.png", tmp_path / "renamed.png")
    lines = cli("search", indexed, tmp_path / "renamed.png", columns=120).out.splitlines()
    assert lines[0] == f"{tmp_path / 'renamed.png'} (jade, group burst 2)"
    marked = [line for line in lines if "the same file" in line]
    assert len(marked) == 1
    assert "1.000" in marked[0]
    assert "jade" in marked[0]
    image = Image.open(pictures / "jade/03.png").convert("RGB")
    image.putpixel((0, 0), (1, 2, 3))
    image.save(tmp_path / "nearly.png")
    assert "the same file" not in cli("search", indexed, tmp_path / "nearly.png", columns=120).out


def test_neighbours_of_the_own_group_are_left_out(indexed: Path, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("search", indexed, pictures / "jade/03.png", "--not-own-group", "--most", 40, "--format", "json")
    (line,) = answer.out.splitlines()
    found = json.loads(line)
    assert found["group"] == "burst 2"
    groups = [one["group"] for one in found["neighbours"]]
    assert len(groups) == 36
    assert "burst 2" not in groups
    table = tmp_path / "asked.csv"
    shutil.copy(pictures / "jade/03.png", tmp_path / "q.png")
    with (tmp_path / "q.png").open("ab") as file:
        file.write(b"\0")
    table.write_text("path,label,group\nq.png,jade,burst 0\n")
    for one in fieldmark.search(indexed, table, not_own_group=True, most=40):
        assert {hit.entry.group for hit in one.hits} == {f"burst {k}" for k in range(1, 7)}, "the table's word counts"
    with pytest.warns(FieldmarkWarning, match=r"The group of 1 picture is not known.*q\.png"):
        (one,) = fieldmark.search(indexed, tmp_path / "q.png", not_own_group=True)
    assert len(one.hits) == 10


def test_only_a_label(indexed: Path, pictures: Path, cli: Cli) -> None:
    (one,) = fieldmark.search(indexed, pictures / "jade/00.png", label="plum", most=20)
    assert [hit.entry.label for hit in one.hits] == ["plum"] * 14
    answer = cli("search", indexed, pictures / "jade/00.png", "--label", "unheard of")
    assert "nothing in the gallery is what was asked for" in answer.out


def test_whatever_can_be_asked_about(indexed: Path, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    """Pixels and bytes have no file, and so no same file; what cannot be read is skipped in its place."""
    file = pictures / "jade/00.png"
    pixels = np.asarray(Image.open(file).convert("RGB"))
    for one in fieldmark.search(indexed, [pixels, file.read_bytes()], most=2):
        assert one.hits[0].similarity == pytest.approx(1, abs=1e-3)
        assert not one.is_same(one.hits[0])
    (tmp_path / "broken.png").write_bytes(b"nothing")
    first, second = fieldmark.search(indexed, [tmp_path / "broken.png", file])
    assert isinstance(first, Skipped)
    assert isinstance(second, Found)
    answer = cli("search", indexed, tmp_path / "broken.png", file, "--format", "json")
    assert answer.status == 1
    assert "skipped: " in answer.err
    assert len(answer.out.splitlines()) == 1


def test_contact_sheets(indexed: Path, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(pictures, tmp_path / "moved")
    names = [tmp_path / "moved/jade/03.png", tmp_path / "moved/plum/01.png"]
    answer = cli("search", indexed, *names, "--out", tmp_path / "sheet", "--most", 7)
    assert answer.status == 0
    assert f"Wrote {tmp_path / 'sheet/search.html'} and {tmp_path / 'sheet/search.png'}" in answer.err
    page = (tmp_path / "sheet/search.html").read_text()
    assert page.count("<img ") == 16
    assert page.count("the same file") == 2
    assert page.count("own group burst 2") >= 1
    assert "of 42 photographs in the gallery" in page
    assert "http" not in page
    with Image.open(tmp_path / "sheet/search.png") as picture:
        assert picture.width > 1000
        assert picture.info["Software"] == "Fieldmark"
    cli("search", indexed, *names, "--out", tmp_path / "sheet")  # its own are replaced
    (tmp_path / "sheet/search.html").write_text("mine")
    assert "search.html is in the way" in cli("search", indexed, names[0], "--out", tmp_path / "sheet").complaint
    assert (tmp_path / "sheet/search.html").read_text() == "mine"


def test_a_sheet_without_the_files(indexed: Path, pictures: Path, tmp_path: Path) -> None:
    """Pictures of the gallery may be gone, and names may be anything."""
    photo = tmp_path / "<b>&é.png"
    shutil.copy(pictures / "jade/00.png", photo)
    with photo.open("ab") as file:
        file.write(b"\0")
    fieldmark.index(indexed, [photo])
    photo.unlink()
    fieldmark.search(indexed, pictures / "jade/00.png", most=3, out=tmp_path / "sheet")
    page = (tmp_path / "sheet/search.html").read_text()
    assert page.count("image not found") == 1
    assert "&lt;b&gt;&amp;é.png" in page


def test_nothing_to_search(trained: Run, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    photo = pictures / "jade/00.png"
    complaint = cli("search", trained.folder, photo).complaint
    assert complaint == f"There is no gallery at {trained.folder / 'gallery'}. Make one with: fieldmark index RUN"
    fieldmark.index(trained.folder, photo, gallery=tmp_path / "g")
    fieldmark.index(trained.folder, photo, gallery=tmp_path / "g", remove=True)
    complaint = cli("search", trained.folder, photo, "--gallery", tmp_path / "g").complaint
    assert complaint == f"The gallery {tmp_path / 'g'} is empty. Add photographs with: fieldmark index RUN PHOTOS"
    gallery_in(tmp_path / "other", 3).close()
    complaint = cli("search", trained.folder, photo, "--gallery", tmp_path / "other").complaint
    assert "is of another model, one of another network: transfer on a drawing" in complaint


def test_a_search_beside_an_index(indexed: Path, pictures: Path) -> None:
    """Reading needs no lock."""
    with fieldmark.Gallery.open(indexed / "gallery", writing=True):
        (one,) = fieldmark.search(indexed, [io.BytesIO((pictures / "jade/00.png").read_bytes())])
    assert len(one.hits) == 10


# ---- parts


@pytest.fixture(scope="module")
def parted_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose method has two parts."""
    changes = ["backbone.name=test_resnet", "backbone.weights=none", "images.size=64", "method.parts=2"]
    changes += ["train.epochs=1", "train.head_epochs=0", "train.ema=false", "train.batchnorm=plain"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIELDMARK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        out = tmp_path_factory.mktemp("parted") / "run"
        return fieldmark.train(pictures, "part_discovery", out=out, overrides=changes).folder


def test_the_same_part_whatever_the_rest(parted_run: Path, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    """Against the vectors themselves; the gallery of wholes is not touched by those of parts."""
    place = tmp_path / "g"
    predictor = fieldmark.Predictor.load(parted_run)
    files = sorted(pictures.rglob("*.png"))
    views = np.stack([predictor.see(Thing(str(file), file)).view for file in files])
    vectors = PartVectorEngine(predictor.model)(views)[:, 1]
    seen = np.flatnonzero(~np.isnan(vectors).any(axis=1))
    fieldmark.index(parted_run, pictures, gallery=place)
    complaint = cli("search", parted_run, files[0], "--gallery", place, "--part", "part 2").complaint
    assert "There is no gallery at" in complaint
    assert "fieldmark index RUN --parts" in complaint
    assert fieldmark.index(parted_run, pictures, gallery=place, parts=True).counts.known == 42
    with fieldmark.Gallery.open(f"{place}-parts/2") as gallery:
        assert len(gallery) == len(seen)
        assert gallery.maker["part"] == "part 2"
    results = fieldmark.search(predictor, files, gallery=place, part="part 2", most=4)
    for row, found in enumerate(results):
        if row not in seen:
            assert isinstance(found, Skipped)
            assert "The part 'part 2' is not seen in" in found.reason
            continue
        assert isinstance(found, Found)
        unit = vectors[seen] / np.linalg.norm(vectors[seen], axis=1, keepdims=True)
        cosines = unit @ (vectors[row] / np.linalg.norm(vectors[row]))
        assert [hit.similarity for hit in found.hits] == pytest.approx(np.sort(cosines)[::-1][:4].tolist(), abs=2e-3)
    again = fieldmark.index(parted_run, pictures, gallery=place, parts=True)
    assert again.counts.known == 42
    fieldmark.index(parted_run, pictures / "jade", gallery=place, remove=True)
    with fieldmark.Gallery.open(f"{place}-parts/2") as gallery:
        assert not gallery.below(pictures / "jade")
        assert len(gallery) <= 28


def test_parts_are_indexed_without_a_trial(
    parted_run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only PyTorch finds them, so that it computes whatever wins."""
    monkeypatch.setattr("fieldmark.commands.index.faster", lambda *_: pytest.fail("it was tried"))
    assert fieldmark.index(parted_run, pictures / "jade", gallery=tmp_path / "g", parts=True).counts.added == 14


def test_parts_that_there_are_not(indexed: Path, parted_run: Path, pictures: Path, cli: Cli) -> None:
    photo = pictures / "jade/00.png"
    for command in (("search", indexed, photo, "--part", "head"), ("index", indexed, photo, "--parts")):
        assert "The method 'transfer' of this run does not find parts" in cli(*command).complaint
    assert cli("search", parted_run, photo, "--part", "part 7").complaint.startswith("There is no part 'part 7'. Did")
