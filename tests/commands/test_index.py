"""`fieldmark index`: what goes into a gallery, what is passed over, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fieldmark
from fieldmark.answering.predictor import Predictor
from fieldmark.core.errors import DataError, RunError, StorageError
from fieldmark.core.recipe import load_recipe
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.log import NAME
from fieldmark.gallery.maker import maker_of
from fieldmark.gallery.store import Added
from fieldmark.model.build import build_model
from fieldmark.model.method import METHODS
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run
from support.commands import settings
from support.galleries import gallery_in

Cli = Callable[..., Any]


def _labels(place: Path) -> dict[str, str | None]:
    with Gallery.open(place) as gallery:
        return {"/".join(Path(one.path).parts[-2:]): one.label for one in gallery}


def test_the_data_of_the_run(trained: Run, cli: Cli) -> None:
    first = cli("index", trained.folder)
    place = trained.folder / "gallery"
    assert first.status == 0
    assert first.out == f"{place}: 42 added; the gallery holds 42 photographs\n"
    assert cli("index", trained.folder).out == f"{place}: 42 there already; the gallery holds 42 photographs\n"
    found = _labels(place)
    assert len(found) == 42
    assert all(label == path.split("/")[0] for path, label in found.items())
    with Gallery.open(place) as gallery:
        assert (
            gallery.description["dimension"]
            == Predictor.load(trained.folder).embed(gallery_paths(gallery)[:1]).shape[1]
        )


def gallery_paths(gallery: Gallery) -> list[str]:
    return [one.path for one in gallery]


def test_folders_tables_and_files(trained: Run, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    """Labels come from class folders and from tables, and what was made of a folder is told."""
    place = tmp_path / "g"
    told = cli("index", trained.folder, pictures, "--gallery", place).err
    assert "42 photographs with 3 labels (amber, jade, plum)" in told
    table = tmp_path / "more.csv"
    shutil.copy(pictures / "jade/00.png", tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes() + b"\0")  # another file, the same picture
    shutil.copy(pictures / "plum/00.png", tmp_path / "y.png")
    table.write_text("path,species,group\nx.png,unseen,camera 1\ny.png,plum,camera 2\n")
    columns = "path=path,label=species"
    answer = cli("index", trained.folder, table, "--gallery", place, "--columns", columns)
    assert answer.out == f"{place}: 1 added, 1 there already; the gallery holds 43 photographs\n"
    assert "2 photographs with 2 labels (plum, unseen) in 2 groups" in answer.err
    with Gallery.open(place) as gallery:
        (last,) = [one for one in gallery if one.label == "unseen"]
        assert (last.path, last.group) == (str(tmp_path / "x.png"), "camera 1")
    answer = cli("index", trained.folder, pictures / "jade", "--gallery", tmp_path / "h")
    assert "no labels are known (" in answer.err
    assert set(_labels(tmp_path / "h").values()) == {None}
    cli("index", trained.folder, pictures, "--no-labels", "--gallery", tmp_path / "i")
    assert set(_labels(tmp_path / "i").values()) == {None}
    cli("index", trained.folder, pictures, "--gallery", tmp_path / "i")
    assert set(_labels(tmp_path / "i").values()) == {"amber", "jade", "plum"}, "a label that is new is learnt"


def test_unreadable_pictures_are_skipped_and_listed(trained: Run, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(pictures / "jade/00.png", tmp_path / "in/1.png")
    (tmp_path / "in/2.png").write_bytes(b"no picture")
    answer = cli("index", trained.folder, tmp_path / "in", tmp_path / "absent.png")
    assert answer.status == 1
    assert answer.out.endswith("1 added, 2 skipped; the gallery holds 1 photograph\n")
    skipped = [line for line in answer.err.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 2
    assert "2.png" in skipped[0]
    assert "absent.png does not exist" in skipped[1]


def test_a_changed_file_replaces(trained: Run, pictures: Path, tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    shutil.copy(pictures / "jade/00.png", photo)
    index = lambda *paths: fieldmark.index(trained.folder, list(paths), gallery=tmp_path / "g").counts  # noqa: E731  (a name for a call)
    assert index(photo) == Added(added=1)
    shutil.copy(pictures / "plum/00.png", photo)
    assert index(photo) == Added(replaced=1)
    shutil.copy(photo, tmp_path / "b.png")
    assert index(tmp_path / "b.png", photo) == Added(known=2)
    shutil.copy(pictures / "jade/01.png", photo)
    photo.write_bytes(b"damaged")
    assert index(photo) == Added()
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery_paths(gallery) == [str(photo)], "what it was is kept until it is something else"
        assert repr(fieldmark.index(trained.folder, [tmp_path / "b.png"], gallery=tmp_path / "g")).startswith(
            "Indexed("
        )


def test_a_path_whose_new_file_is_known_elsewhere(trained: Run, pictures: Path, tmp_path: Path) -> None:
    for name, source in (("a", "jade/00"), ("b", "plum/00")):
        shutil.copy(pictures / f"{source}.png", tmp_path / f"{name}.png")
    both = [tmp_path / "a.png", tmp_path / "b.png"]
    fieldmark.index(trained.folder, both, gallery=tmp_path / "g")
    shutil.copy(both[0], both[1])
    assert fieldmark.index(trained.folder, both, gallery=tmp_path / "g").counts == Added(known=2)
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery_paths(gallery) == [str(both[0])]


def test_a_file_that_was_moved_has_its_new_path(trained: Run, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "jade", tmp_path / "old")
    fieldmark.index(trained.folder, tmp_path / "old", gallery=tmp_path / "g")
    (tmp_path / "old").rename(tmp_path / "new")
    assert fieldmark.index(trained.folder, tmp_path / "new", gallery=tmp_path / "g").counts == Added(added=14)
    with Gallery.open(tmp_path / "g") as gallery:
        assert len(gallery) == len(gallery.below(tmp_path / "new")) == 14
    shutil.copytree(tmp_path / "new", tmp_path / "copy")
    assert fieldmark.index(trained.folder, tmp_path / "copy", gallery=tmp_path / "g").counts == Added(known=14)


def test_photographs_are_taken_out(trained: Run, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    cli("index", trained.folder, pictures)
    place = trained.folder / "gallery"
    answer = cli("index", trained.folder, pictures / "jade", pictures / "plum" / "03.png", "--remove")
    assert answer.out == f"{place}: 15 removed; the gallery holds 27 photographs\n"
    complaint = cli("index", trained.folder, "elsewhere", "--remove").complaint
    assert complaint.startswith(f"None of 27 photographs in {place} lies at elsewhere")
    assert "No paths were given to remove" in cli("index", trained.folder, "--remove").complaint
    assert cli("index", trained.folder, pictures).out.startswith(f"{place}: 15 added, 27 there already")


def test_it_goes_on_where_it_was_stopped(
    trained: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is new is decoded."""
    decoded: list[str] = []
    decode = Predictor.decode

    def counting(self: Predictor, thing: Any) -> Any:
        if len(decoded) == 40 and len(decoded) < limit:
            raise KeyboardInterrupt
        decoded.append(thing.name)
        return decode(self, thing)

    limit = 41
    monkeypatch.setattr(Predictor, "decode", counting)
    with pytest.raises(KeyboardInterrupt):
        fieldmark.index(trained.folder, pictures, gallery=tmp_path / "g")
    limit = 0
    assert len(decoded) == 40
    assert len(_labels(tmp_path / "g")) == 32, "what was acknowledged, a batch"
    assert fieldmark.index(trained.folder, pictures, gallery=tmp_path / "g").counts == Added(added=10, known=32)
    assert len(decoded) == 50


# ---- what makes embeddings


def test_a_new_class_leaves_the_gallery_valid(trained: Run) -> None:
    """Head, classes, calibration and attributes make no embedding; weights, size and normalisation do."""
    predictor = Predictor.load(trained.folder)
    before = maker_of(predictor)
    bundle = replace(predictor.bundle, classes=(*predictor.bundle.classes, "zebra"), taxonomy=None, calibration=None)
    with torch.no_grad():
        for one in predictor.model.method.head.parameters():
            one += 1
    assert maker_of(Predictor(bundle, predictor.model)) == before
    images = bundle.images.model_copy(update={"size": 64, "train_scale": 0.7, "cache_gb": 1.0})
    larger = replace(bundle, recipe=bundle.recipe.model_copy(update={"images": images}))
    other = maker_of(Predictor(larger, predictor.model))
    assert {key for key in before if other[key] != before[key]} == {"view", "network"}
    normalization = predictor.model.backbone.normalization
    predictor.model.backbone.normalization = type(normalization)((0.1, 0.2, 0.3), normalization.std, "bilinear")
    assert maker_of(predictor)["view"] != before["view"]
    with torch.no_grad():
        next(predictor.model.backbone.parameters())[0] += 1e-3
    assert maker_of(predictor)["weights"] != before["weights"]


@pytest.mark.parametrize("method", [*METHODS])
def test_only_what_makes_the_embedding_counts(method: str) -> None:
    """Weights that know about classes change no embedding exactly where they do not change the maker."""
    recipe = load_recipe("walkthrough").changed(None, None, [*settings(), f"method.name={method}", "images.size=64"])
    bundle = Bundle(("a", "b", "c"), recipe)
    predictor = Predictor(bundle, build_model(recipe, bundle.task, load_weights=False))
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    before, embedding = maker_of(predictor), predictor.embed(picture)
    with torch.no_grad():
        for name, one in predictor.model.method.state_dict().items():
            if name.startswith(("head.", "centres")) and one.is_floating_point():
                one += torch.rand_like(one)
    np.testing.assert_array_equal(predictor.embed(picture), embedding)
    assert maker_of(predictor) == before


def test_a_gallery_of_another_model_is_refused(trained: Run, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    gallery_in(tmp_path / "g", 3).close()
    complaint = cli("index", trained.folder, pictures, "--gallery", tmp_path / "g").complaint
    assert "is of another model, one of another network: transfer on a drawing, 32 px" in complaint
    assert "transfer on test_resnet, 32 px" in complaint
    with pytest.raises(RunError, match="another model"):
        fieldmark.search(trained.folder, pictures / "jade/00.png", gallery=tmp_path / "g")


def test_a_gallery_that_is_being_written(trained: Run, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    with gallery_in(tmp_path / "g", 3):
        complaint = cli("index", trained.folder, pictures, "--gallery", tmp_path / "g").complaint
    assert complaint == (
        f"Another process is writing into the gallery {tmp_path / 'g'}. Wait until it has finished; searching is "
        "possible meanwhile."
    )


def test_damage_and_places_that_cannot_be(trained: Run, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    cli("index", trained.folder, pictures)
    log = trained.folder / "gallery" / NAME
    data = bytearray(log.read_bytes())
    data[2000] ^= 1
    log.write_bytes(data)
    for command in ("index", "search"):
        complaint = cli(command, trained.folder, pictures / "jade/00.png").complaint
        assert f"{log} is damaged: the record at byte " in complaint
        assert "index the photographs again" in complaint
    (tmp_path / "file").write_text("")
    assert "Cannot write" in cli("index", trained.folder, pictures, "--gallery", tmp_path / "file" / "g").complaint
    with pytest.raises(StorageError):
        fieldmark.index(trained.folder, pictures, gallery=tmp_path / "file")
    with pytest.raises(DataError, match="A gallery holds files, and image 1 is none"):
        fieldmark.index(trained.folder, [(pictures / "jade/00.png").read_bytes()], gallery=tmp_path / "g")
    assert "No file matches" in cli("index", trained.folder, tmp_path / "none*.png").complaint
