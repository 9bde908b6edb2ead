"""Where copies are looked for, and what is said where there is none, or half of one, or a bad one."""

from __future__ import annotations

import os
import pickle
import shutil
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest
import torchvision

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.sets import DATASETS, copy_of, find, read
from support.official import CIFAR_CLASSES, picture

Lay = Callable[[str], Path]

GONE = {  # what a download that stopped half-way, or a wrong step, leaves out
    "cifar10": ["data_batch_3", "batches.meta"],
    "cub": ["classes.txt"],
    "fgvc_aircraft": ["data/images_variant_val.txt"],
    "flowers102": ["setid.mat", "jpg/"],
    "food101": ["meta/test.json"],
    "oxford_iiit_pet": ["annotations/trainval.txt"],
    "stanford_cars": ["devkit/cars_meta.mat"],
}


def complaint(data: Path | str, root: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(data, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", sorted(GONE))
def test_half_a_copy_is_said_to_be_one(name: str, lay: Lay) -> None:
    folder = lay(name)
    for file in GONE[name]:
        delete(folder / file)
    title = DATASETS[name].title
    said = complaint(name, folder.parent)
    assert said.startswith(f"The copy of {title} in {folder} is incomplete: ")
    assert all(file in said for file in GONE[name])
    assert DATASETS[name].home in said
    assert ("remove the folder so that Fieldmark downloads it again" in said) == bool(DATASETS[name].torchvision)
    if name != "flowers102":  # less than half is there
        assert complaint(folder) == said


@pytest.mark.parametrize("name", sorted(set(GONE) - {"cifar10"}))
def test_lost_pictures_are_counted_and_named(name: str, lay: Lay) -> None:
    folder = lay(name)
    lost = sorted(folder.rglob("*.jpg"))[:4]
    for file in lost:
        file.unlink()
    said = complaint(folder)
    assert "4 of the" in said or "4 of 4 images" in said
    assert str(lost[0].relative_to(folder)) in said
    assert str(folder) in said


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("flowers102", "setid.mat"),
        ("flowers102", "imagelabels.mat"),
        ("stanford_cars", "devkit/cars_meta.mat"),
        ("fgvc_aircraft", "data/images_variant_test.txt"),
        ("fgvc_aircraft", "data/images_box.txt"),
        ("oxford_iiit_pet", "annotations/test.txt"),
        ("oxford_iiit_pet", "annotations/xmls/Abyssinian_1.xml"),
        ("food101", "meta/train.json"),
        ("inaturalist_2018", "val2018.json"),
        ("inaturalist_2018", "categories.json"),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "other"])
def test_damaged_files_are_named(name: str, file: str, damage: str, lay: Lay) -> None:
    folder = lay(name)
    data = (folder / file).read_bytes()
    noise = bytes(range(128, 256)) * 4
    changed = {"cut": data[: len(data) // 2 + 1], "empty": b"", "noise": noise, "other": b'{"a": 1}\n'}
    (folder / file).write_bytes(changed[damage])
    if damage == "empty" and file.endswith(("_box.txt", "s/test.txt", "_test.txt")):
        assert len(read(folder))  # an empty list is a list
    else:
        assert str(folder / Path(file).parent) in complaint(folder) or file in complaint(folder)


def test_test_labels_of_cars_are_a_file_of_their_own(lay: Lay) -> None:
    folder = lay("stanford_cars")
    (folder / "cars_test_annos_withlabels.mat").unlink()
    assert "cars_test_annos_withlabels.mat is missing" in complaint("stanford_cars", folder.parent)


def test_an_archive_that_is_not_unpacked_is_named(tmp_path: Path) -> None:
    (tmp_path / "root" / "food-101").mkdir(parents=True)
    (tmp_path / "root" / "food-101" / "food-101.tar.gz").touch()
    assert complaint("food101", tmp_path / "root").endswith("Unpack food-101.tar.gz there.")


# ---- pickles


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_pickle_of_another_checksum_is_never_opened(name: str, lay: Lay, tmp_path: Path) -> None:
    folder = lay("cifar10")
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    (folder / name).write_bytes(trap)
    said = complaint("cifar10", folder)
    assert f"{folder / name} is not the published file" in said
    assert "was not opened" in said
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "cache" / "datasets" / "cifar10").exists()
    pickle.loads(trap)  # it would have
    assert (tmp_path / "sprung").exists()


# ---- class folders


def class_folders(folder: Path, names: list[str], parts: tuple[str, ...] = ("train", "test")) -> Path:
    for part in parts:
        for i, name in enumerate(names):
            picture(folder / part / name / f"{i}.png", i)
    return folder


def test_class_folders_are_taken(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "root" / "cifar10-jpeg", CIFAR_CLASSES)
    with pytest.warns(DataWarning, match=r"holds 20 of 60,000 images of CIFAR-10, so scores are not comparable"):
        catalog = read("cifar10", tmp_path / "root")
    assert (catalog.root, catalog.classes) == (folder, tuple(CIFAR_CLASSES))
    with pytest.warns(DataWarning, match="20 of 60,000"):
        assert read("cifar10", folder).paths == catalog.paths


def test_class_folders_without_parts_or_with_too_few_classes(tmp_path: Path) -> None:
    class_folders(tmp_path / "a" / "cifar10", CIFAR_CLASSES, parts=("",))
    with pytest.warns(DataWarning, match="no official splits"):
        assert not read("cifar10", tmp_path / "a").is_split
    class_folders(tmp_path / "b" / "cifar10", CIFAR_CLASSES[:8])
    assert "it has 8 class folders, but CIFAR-10 has 10 classes" in complaint("cifar10", tmp_path / "b")


def test_other_data_in_the_working_folder_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(Path("data"), [f"bird {i}" for i in range(10)])
    class_folders(Path("data") / "cifar100", CIFAR_CLASSES)
    assert copy_of(DATASETS["cifar10"]) is None


# ---- names and places


def test_places_without_a_root(lay: Lay, tmp_path: Path) -> None:
    folder = lay("food101")
    shutil.copytree(folder, "data/food-101")
    assert find("food101") == Path("data/food-101").absolute()
    shutil.rmtree("data")
    shutil.copytree(folder, tmp_path / "cache" / "datasets" / "unpacked" / "food-101")
    (tmp_path / "cache" / "datasets" / "unpacked").rename(tmp_path / "cache" / "datasets" / "food101")
    assert find("Food-101") == tmp_path / "cache" / "datasets" / "food101" / "food-101"


def test_aircraft_is_not_stepped_through(lay: Lay) -> None:
    folder = lay("fgvc_aircraft")  # its only folder is `data`
    assert len(read(folder.parent)) == len(read(folder)) == 18


def test_an_existing_path_wins_over_a_name(lay: Lay) -> None:
    root = lay("food101").parent
    class_folders(Path("food101"), ["robin", "wren"])
    assert read("food101").classes == ("robin", "wren")
    with pytest.warns(DataWarning, match="food101 exists, so the root .* is not used"):
        assert read("food101", root).classes == ("robin", "wren")


@pytest.mark.parametrize(
    ("typed", "right"),
    [("flower102", "flowers102"), ("cars", "stanford_cars"), ("Aircraft", "fgvc_aircraft"), ("cifar-100", "cifar10")],
)
def test_misspelt_names(typed: str, right: str) -> None:
    said = complaint(typed)
    assert said.startswith(f"There is nothing at {Path(typed).absolute()}, and no data set is called {typed!r}. ")
    assert said.endswith(f"Did you mean {right!r}?")


def test_what_is_no_name() -> None:
    assert "`fieldmark datasets` lists" in complaint("zzzz")
    assert "data set" not in complaint("photos/flowers102")


def test_a_root_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "no" / "where"):
        assert complaint("food101", root).startswith(f"The root {root} is not a folder")


@pytest.mark.parametrize("name", ["stanford_cars", "inaturalist", "cub"])
def test_what_is_not_downloaded_is_said_to_be_put_somewhere(name: str, tmp_path: Path) -> None:
    dataset = DATASETS[name]
    said = complaint(name, tmp_path)
    assert said.startswith(f"There is no copy of {dataset.title} in {tmp_path}. ")
    assert dataset.no_download in said
    assert dataset.home in said
    assert f"{tmp_path / dataset.folder}: {dataset.layouts[0]}" in said
    assert "class folders in train/ and test/" in said


# ---- downloads


def test_every_download_is_torchvisions() -> None:
    for dataset in DATASETS.values():
        assert bool(dataset.torchvision) != bool(dataset.no_download)
        assert not dataset.torchvision or hasattr(torchvision.datasets, dataset.torchvision)


def test_a_download(lay: Lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lay("food101")

    def downloaded(root: Path, download: bool) -> None:
        assert download
        shutil.copytree(source, Path(root) / source.name)
        (Path(root) / source.name / "food-101.tar.gz").touch()

    monkeypatch.setattr(torchvision.datasets, "Food101", downloaded)
    said: list[str] = []
    assert len(read("food101", tmp_path / "new", tell=said.append)) == 8
    assert said == [
        f"Downloading Food-101 (5 GB; terms: {DATASETS['food101'].terms}) into {tmp_path / 'new' / 'food-101'}"
    ]
    assert not list((tmp_path / "new").rglob("*.tar.gz"))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["food-101"]
    read("food101", tmp_path / "new", tell=said.append)
    assert len(said) == 1


@pytest.mark.parametrize(
    "failure",
    [urllib.error.URLError("no such host"), RuntimeError("File not found or corrupted."), KeyboardInterrupt()],
)
def test_a_download_that_fails_leaves_nothing(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(root: Path, download: bool) -> None:
        (Path(root) / "food-101" / "images").mkdir(parents=True)
        raise failure

    monkeypatch.setattr(torchvision.datasets, "Food101", fails)
    if isinstance(failure, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            read("food101", tmp_path / "new")
    else:
        said = complaint("food101", tmp_path / "new")
        assert "Its download failed: " in said
        assert f"put this into {tmp_path / 'new' / 'food-101'}: images/, meta/train.json, meta/test.json" in said
    assert list((tmp_path / "new").iterdir()) == []


def test_no_network(tmp_path: Path) -> None:
    """torchvision's own class, which here finds no network."""
    assert "Its download failed: <urlopen error no network in tests>" in complaint("flowers102", tmp_path)
