from __future__ import annotations

import os
from pathlib import Path

import pytest

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.readers.read import read

pytestmark = pytest.mark.filterwarnings("error::fieldmark.core.errors.DataWarning")


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


IMAGES = {"images/1.jpg": "", "images/2.jpg": ""}
TABLE = "path,label\nimages/1.jpg,crow\nimages/2.jpg,gull\n"
FOLDERS = {"robin/1.jpg": "", "wren/1.jpg": ""}


def test_a_table_by_its_own_path(tmp_path: Path) -> None:
    lay(tmp_path, {**IMAGES, "labels.csv": TABLE})
    assert read(str(tmp_path / "labels.csv")).name == "labels"


def test_a_folder_with_a_catalog(tmp_path: Path) -> None:
    catalog = read(lay(tmp_path, {**IMAGES, **FOLDERS, "catalog.csv": TABLE, "other.csv": TABLE}))
    assert catalog.classes == ("crow", "gull")
    assert catalog.name == tmp_path.name


def test_a_folder_with_one_table_of_images(tmp_path: Path) -> None:
    lay(tmp_path, {**IMAGES, "labels.csv": TABLE, "sites.csv": "site,name\n1,x\n", "broken.csv": "\x00"})
    assert read(tmp_path).classes == ("crow", "gull")


def test_class_folders(tmp_path: Path) -> None:
    assert read(lay(tmp_path, {**FOLDERS, "sites.csv": "site,name\n"})).classes == ("robin", "wren")


def test_a_table_beside_class_folders_is_not_guessed_at(tmp_path: Path) -> None:
    lay(tmp_path, {**FOLDERS, "labels.csv": "path,label\nrobin/1.jpg,x\nwren/1.jpg,y\n"})
    with pytest.raises(
        DataError, match=r"can be read in two ways: from the table labels.csv or from the folders robin, wren"
    ):
        read(tmp_path)
    assert read(tmp_path / "labels.csv").classes == ("x", "y")


def test_two_tables_are_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds 2 tables with the columns path and label: test.csv, train.csv"):
        read(lay(tmp_path, {**IMAGES, "train.csv": TABLE, "test.csv": TABLE}))


def test_what_an_archive_unpacked_to_is_stepped_into(tmp_path: Path) -> None:
    lay(tmp_path / "download" / "birds" / "photos", {**FOLDERS, "readme.txt": ""})
    catalog = read(tmp_path / "download")
    assert catalog.name == "photos"
    assert not catalog.taxonomy


def test_a_lone_train_folder_is_a_split(tmp_path: Path) -> None:
    assert read(lay(tmp_path, {"train/a/1.jpg": "", "train/b/1.jpg": ""})).splits.tolist() == ["train", "train"]


def test_relative_paths_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path / "birds", FOLDERS)
    monkeypatch.chdir(tmp_path)
    assert read("birds/../birds").root == tmp_path / "birds"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("~/birds").root == tmp_path / "birds"


def test_nothing_there(tmp_path: Path) -> None:
    lay(tmp_path, {"birds/readme.txt": ""})
    with pytest.raises(DataError, match=r"There is nothing at .*/brids. Did you mean 'birds'\?"):
        read(tmp_path / "brids")


def test_nothing_that_fits(tmp_path: Path) -> None:
    lay(tmp_path, {"setid.mat": "", "names.csv": "a,b\n", "sub/a.txt": "", "sub2/a.txt": ""})
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"No data found at {tmp_path}, which holds 2 files (.csv, .mat) and 2 folders (sub, sub2). Looked for: a table "
        "(.csv, .tsv, .xlsx, .parquet); COCO Camera Traps (.json); CUB-200-2011 (images.txt, image_class_labels.txt, "
        "classes.txt); catalog.csv, .tsv, .xlsx or .parquet; one table with the columns path and label; class folders, "
        "with or without train, val and test above them; tar shards, as WebDataset has them."
    )
    with pytest.raises(DataError, match=r"which is a file ending in '.mat' \(unpack an archive first\)"):
        read(tmp_path / "setid.mat")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"which is empty"):
        read(tmp_path / "empty")


def test_images_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds 1 image but no class folders"):
        read(lay(tmp_path, {"1.jpg": ""}))


def test_one_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds only one class, 'robin'. At least two are needed"):
        read(lay(tmp_path, {"robin/1.jpg": "", "robin/2.jpg": ""}))


def test_classes_that_a_part_lacks_are_named(tmp_path: Path) -> None:
    lay(tmp_path, {"train/a/1.jpg": "", "train/b/1.jpg": "", "test/b/1.jpg": "", "test/c/1.jpg": ""})
    with pytest.warns(DataWarning) as caught:
        catalog = read(tmp_path)
    assert [str(warning.message) for warning in caught] == [
        "1 of 3 classes have no train images: c",
        "1 of 3 classes have no test images: a",
    ]
    assert catalog.classes == ("a", "b", "c")


def test_groups_in_two_parts_are_named(tmp_path: Path) -> None:
    rows = ["1,a,train,g", "2,b,train,h", "3,a,test,g", "4,b,test,"]
    lay(tmp_path, {str(number): "" for number in range(1, 5)})
    lay(tmp_path, {"catalog.csv": "\n".join(["path,label,split,group", *rows])})
    with pytest.warns(DataWarning, match="1 group with images in more than one split: g"):
        read(tmp_path)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, FOLDERS)
    try:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/wren/\xff.jpg"))).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match=r"A file name in .* is not UTF-8: .*Rename it"):
        read(tmp_path)


def test_the_real_photographs() -> None:
    if "FIELDMARK_DATA" not in os.environ:
        pytest.skip("FIELDMARK_DATA does not name a folder of real photographs")
    root = Path(os.environ["FIELDMARK_DATA"])
    if not (root / "cifar10-jpeg").is_dir() or not (root / "flowers-102").is_dir():
        pytest.skip("cifar10-jpeg and flowers-102 are not in FIELDMARK_DATA")
    catalog = read(root / "cifar10-jpeg")
    assert (len(catalog.rows("train")), len(catalog.rows("test")), len(catalog.classes)) == (50000, 10000, 10)
    with pytest.raises(DataError, match=r"flowers-102 holds only one class, 'jpg'"):
        read(root / "flowers-102")
