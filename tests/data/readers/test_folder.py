from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.readers.folder import natural_key, read_folder
from support.files import lay

pytestmark = pytest.mark.filterwarnings("error::fieldmark.core.errors.DataWarning")


def test_class_folders(tmp_path: Path) -> None:
    lay(
        tmp_path,
        "class10/b.JPG",
        "class10/a.png",
        "class2/x.jpeg",
        "class2/notes.txt",
        "class2/jpg",
        "class2/.hidden.jpg",
    )
    catalog = read_folder(lay(tmp_path, "__MACOSX/class2/._x.jpeg", "class2/Thumbs.db", ".git/a.jpg"))
    assert catalog.classes == ("class2", "class10")
    assert catalog.paths == ("class10/a.png", "class10/b.JPG", "class2/x.jpeg")
    assert catalog.labels.tolist() == [1, 1, 0]
    assert catalog.splits.tolist() == catalog.groups.tolist() == ["", "", ""]
    assert not catalog.taxonomy
    assert catalog.name == tmp_path.name


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Training", "VALID", "Testing"),
        ("train", "validation", "test"),
        ("TRAIN", "dev", "test"),
    ],
)
def test_parts_and_their_other_names(tmp_path: Path, train: str, val: str, test: str) -> None:
    for split in (train, val, test):
        lay(tmp_path, f"{split}/robin/{split}1.jpg", f"{split}/crow/{split}2.jpg")
    catalog = read_folder(tmp_path)
    assert catalog.classes == ("crow", "robin")
    assert dict(zip(catalog.paths, catalog.splits.tolist(), strict=True)) == {
        f"{folder}/{name}/{folder}{number}.jpg": split
        for folder, split in ((train, "train"), (val, "val"), (test, "test"))
        for name, number in (("robin", 1), ("crow", 2))
    }


def test_classes_are_the_union_over_the_splits(tmp_path: Path) -> None:
    catalog = read_folder(lay(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/b/1.jpg", "test/c/1.jpg"))
    assert catalog.classes == ("a", "b", "c")
    assert catalog.rows("test").tolist() == [0, 1]
    assert catalog.labels.tolist() == [1, 2, 0, 1]


def test_nested_folders_are_the_taxonomy(tmp_path: Path) -> None:
    lay(tmp_path, "laridae/larus/canus/1.jpg", "laridae/larus/fuscus/1.jpg", "laridae/rissa/tridactyla/1.jpg")
    catalog = read_folder(lay(tmp_path, "corvidae/corvus/corax/1.jpg"))
    assert catalog.classes == ("canus", "corax", "fuscus", "tridactyla")
    assert dict(catalog.taxonomy) == {
        "genus": ("larus", "corvus", "larus", "rissa"),
        "family": ("laridae", "corvidae", "laridae", "laridae"),
    }
    assert list(catalog.taxonomy) == ["genus", "family"]


def test_a_level_of_one_name_is_dropped(tmp_path: Path) -> None:
    lay(tmp_path, "train/birds/larus/canus/1.jpg", "train/birds/corvus/corax/1.jpg")
    assert list(read_folder(tmp_path).taxonomy) == ["genus"]


def test_more_levels_than_names(tmp_path: Path) -> None:
    lay(tmp_path, "a/b/c/d/e/1.jpg", "f/g/h/i/j/1.jpg")
    assert list(read_folder(tmp_path).taxonomy) == ["genus", "family", "order", "level 5"]


def test_one_name_under_two_parents_is_two_classes(tmp_path: Path) -> None:
    lay(tmp_path, "larus/juvenile/1.jpg", "larus/adult/1.jpg", "rissa/juvenile/1.jpg")
    catalog = read_folder(tmp_path)
    assert catalog.classes == ("adult", "larus/juvenile", "rissa/juvenile")
    assert catalog.taxonomy["genus"] == ("larus", "larus", "rissa")


def test_one_name_on_an_upper_level_is_two_names(tmp_path: Path) -> None:
    lay(tmp_path, "plants/prunella/vulgaris/1.jpg", "birds/prunella/modularis/1.jpg")
    assert read_folder(tmp_path).taxonomy["genus"] == ("birds/prunella", "plants/prunella")


def test_uneven_depth_gives_no_taxonomy(tmp_path: Path) -> None:
    lay(tmp_path, "larus/canus/1.jpg", "robin/1.jpg")
    with pytest.warns(DataWarning, match="classes lie at different depths: robin, larus/canus"):
        catalog = read_folder(tmp_path)
    assert catalog.classes == ("canus", "robin")
    assert not catalog.taxonomy


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    catalog = read_folder(lay(tmp_path, "bus/1.jpg", "train/1.jpg", "test/1.jpg"))
    assert catalog.classes == ("bus", "test", "train")
    assert set(catalog.splits) == {""}


def test_a_test_part_alone(tmp_path: Path) -> None:
    assert read_folder(lay(tmp_path, "test/a/1.jpg", "test/b/1.jpg")).splits.tolist() == ["test", "test"]


def test_folders_beside_the_parts_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, "train/a/1.jpg", "test/a/1.jpg", "extra/a/1.jpg")
    with pytest.raises(DataError, match=r"holds the splits test, train, but also extra with images. Move"):
        read_folder(tmp_path)


def test_parts_inside_classes_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, "robin/train/1.jpg", "robin/test/1.jpg", "crow/train/1.jpg")
    with pytest.raises(
        DataError, match=r"the folders test, train are inside class folders. Put the class folders inside"
    ):
        read_folder(tmp_path)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    lay(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/7.jpg", "test/8.jpg", "docs/old/readme.txt", "train/a/2.jp2")
    (tmp_path / "train" / "c").mkdir()
    with pytest.warns(DataWarning) as caught:
        catalog = read_folder(tmp_path)
    assert [str(warning.message) for warning in caught] == [
        f"Left out of {tmp_path}: 2 images outside class folders (in test); 2 folders without images (docs, train/c); "
        "1 image in a format that Fieldmark does not read (train/a/2.jp2)"
    ]
    assert catalog.paths == ("train/a/1.jpg", "train/b/1.jpg")


def test_images_without_class_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds 2 images but no class folders. Expected a folder for each class"):
        read_folder(lay(tmp_path, "1.jpg", "2.jpg"))


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"There are no images in .*, only 1 image in a format that Fieldmark does not read \(a/1.jxl\)\.",
    ):
        read_folder(lay(tmp_path, "a/1.jxl", "b/1.txt"))


def test_images_beside_class_folders(tmp_path: Path) -> None:
    lay(tmp_path, "larus/1.jpg", "larus/canus/1.jpg", "rissa/tridactyla/1.jpg")
    with pytest.raises(
        DataError, match=r"larus holds both images and a folder with images, 'canus'. A folder is either"
    ):
        read_folder(tmp_path)


def test_links_are_followed_or_named(tmp_path: Path) -> None:
    data = lay(tmp_path / "data", "a/1.jpg", "b/1.jpg")
    (data / "a" / "loop").symlink_to(data)
    (data / "c").symlink_to(lay(tmp_path / "elsewhere", "9.jpg"))
    (data / "d").symlink_to("d")
    with pytest.warns(DataWarning) as caught:
        assert read_folder(data).paths == ("a/1.jpg", "b/1.jpg", "c/9.jpg")
    assert [str(warning.message) for warning in caught] == [
        f"Left out of {data}: 1 link that leads nowhere (d); 1 link that leads back to a folder above it (a/loop)"
    ]


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)  # root, as in a container, may read everything
    with pytest.raises(DataError, match=r"Cannot read the folder .*: Permission denied. Check its permissions."):
        read_folder(tmp_path)


def test_names_of_the_same_letters_are_one_class(tmp_path: Path) -> None:
    catalog = read_folder(lay(tmp_path, "train/caf\u00e9/1.jpg", "train/tea/1.jpg", "test/cafe\u0301/2.jpg"))
    assert catalog.classes == ("caf\u00e9", "tea")


def test_names_that_differ_only_by_blanks_are_one_class(tmp_path: Path) -> None:
    with pytest.warns(DataWarning) as caught:
        catalog = read_folder(lay(tmp_path, "rose /1.jpg", "rose/2.jpg", "Rose/3.jpg", " tea  rose/4.jpg"))
    assert catalog.classes == ("Rose", "rose", "tea rose")
    assert catalog.paths == (" tea  rose/4.jpg", "Rose/3.jpg", "rose /1.jpg", "rose/2.jpg")
    assert [str(warning.message) for warning in caught] == [
        f"The folders 'rose' and 'rose ' in {tmp_path} are one class, 'rose': their names differ only by blanks or by "
        "how their letters are encoded"
    ]


def test_a_split_with_a_blank_in_its_name(tmp_path: Path) -> None:
    catalog = read_folder(lay(tmp_path, "train /a/1.jpg", "train /b/1.jpg", "test/a/1.jpg"))
    assert sorted(catalog.splits.tolist()) == ["test", "train", "train"]


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (
            ["Passerina/ciris", "Passerina/amoena", "Larus/canus"],
            ["Larus canus", "Passerina amoena", "Passerina ciris"],
        ),
        (["train/Passerina/ciris", "test/Larus/canus"], ["Larus canus", "Passerina ciris"]),
        (
            ["Laridae/Larus/fuscus graellsii", "Laridae/Rissa/tridactyla"],
            ["Larus fuscus graellsii", "Rissa tridactyla"],
        ),
        (["Larus/novae-hollandiae", "Rissa/minor"], ["Larus novae-hollandiae", "Rissa minor"]),
        (["A/Larus/minor", "B/Larus/minor"], ["A/Larus minor", "B/Larus minor"]),
        (["Audi/S5", "Audi/a4", "Seat/ibiza"], ["a4", "ibiza", "S5"]),  # no epithet has a digit
        (["Audi/Audi S5", "Seat/Seat Ibiza"], ["Audi S5", "Seat Ibiza"]),
        (["Audi/audi quattro", "Seat/seat ibiza"], ["audi quattro", "seat ibiza"]),  # names its parent already
        (["larus/canus", "rissa/tridactyla"], ["canus", "tridactyla"]),
        (["Sea birds/canus", "Rissa/tridactyla"], ["canus", "tridactyla"]),
        (["Larus/canus", "Rissa/Kittiwake"], ["canus", "Kittiwake"]),
        (["鸟/知更鸟", "鱼/鲤"], ["知更鸟", "鲤"]),
    ],
)
def test_genus_and_epithet(tmp_path: Path, folders: list[str], classes: list[str]) -> None:
    catalog = read_folder(lay(tmp_path, *(f"{folder}/1.jpg" for folder in folders)))
    assert sorted(catalog.classes) == sorted(classes)
    labelled = dict(zip(catalog.paths, (catalog.classes[label] for label in catalog.labels), strict=True))
    assert all(labelled[f"{folder}/1.jpg"].endswith(folder.rpartition("/")[2]) for folder in folders)


def test_names_of_genus_and_epithet_without_a_common_depth_stay(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match="different depths"):
        assert read_folder(lay(tmp_path, "Larus/canus/1.jpg", "robin/1.jpg")).classes == ("canus", "robin")


@given(st.lists(st.text("aB9 10", max_size=5)), st.randoms())
def test_natural_order_is_total(names: list[str], order: Random) -> None:
    shuffled = list(names)
    order.shuffle(shuffled)
    assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)


def test_natural_order() -> None:
    names = ["class10", "Class2", "class1", "10", "9", "a", "b²", "b1"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "b1", "b²", "class1", "Class2", "class10"]
