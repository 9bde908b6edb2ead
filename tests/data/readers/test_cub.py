from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.readers.cub import read_cub
from fieldmark.data.readers.read import read

FILES = {
    "images.txt": "1 001.Black_footed_Albatross/a.jpg\n2 001.Black_footed_Albatross/b.jpg\n3 017.Cardinal/c.jpg\n",
    "image_class_labels.txt": "1 1\n2 1\n3 17\n",
    "classes.txt": "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n17 017.Cardinal\n",
    "train_test_split.txt": "1 1\n2 0\n3 1\n",
    "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n3 1.5 2.5 10.0 20.0\n",
    "parts/parts.txt": "1 back\n2 left eye\n",
    "parts/part_locs.txt": "1 1 10.5 20.5 1\n1 2 0.0 0.0 0\n2 2 7.0 8.0 1\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for line in FILES["images.txt"].splitlines():
        image = tmp_path / "images" / line.split()[1]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    return tmp_path


def test_the_layout(root: Path) -> None:
    with pytest.warns(DataWarning, match="1 of 2 classes have no test images: Cardinal"):
        catalog = read(root)
    assert catalog.classes == ("Black footed Albatross", "Cardinal")
    assert dict(catalog.taxonomy) == {"genus": ("Albatross", "Cardinal")}
    assert catalog.labels.tolist() == [0, 0, 1]
    assert catalog.splits.tolist() == ["train", "test", "train"]
    assert catalog.file(2) == root / "images" / "017.Cardinal" / "c.jpg"
    nan = np.nan
    np.testing.assert_array_equal(catalog.boxes, [[60, 27, 325, 304], [nan] * 4, [1.5, 2.5, 10, 20]])
    assert catalog.keypoint_names == ("back", "left eye")
    np.testing.assert_array_equal(
        catalog.keypoints,
        [[[10.5, 20.5, 1], [nan, nan, 0]], [[nan, nan, 0], [7, 8, 1]], [[nan, nan, 0], [nan, nan, 0]]],
    )


def test_optional_files_may_be_absent(root: Path) -> None:
    for name in ("train_test_split.txt", "bounding_boxes.txt", "parts/parts.txt"):
        (root / name).unlink()
    catalog = read_cub(root)
    assert catalog.splits.tolist() == ["", "", ""]
    assert catalog.boxes is None
    assert catalog.keypoints is None


def test_names_that_differ_by_number_only_keep_it(root: Path) -> None:
    (root / "classes.txt").write_text("1 001.Gull\n17 017.Gull\n")
    assert read_cub(root).classes == ("001.Gull", "017.Gull")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("images.txt", "1\n", "images.txt, line 1: expected 2 fields, got '1'"),
        ("images.txt", "1 a.jpg\n1 b.jpg\n", "lists an image number twice"),
        (
            "images.txt",
            FILES["images.txt"] + "\n4 x/d.jpg\n",
            r"1 of 4 images listed in .* missing: images/x/d.jpg \(line 5\)",
        ),
        ("image_class_labels.txt", "1 1\n2 1\n", "has no line for image 3"),
        ("image_class_labels.txt", "1 1\n2 99\n", "line 2: class '99' is not in classes.txt"),
        ("image_class_labels.txt", "1 1\n9 1\n", "line 2: image '9' is not in images.txt"),
        ("train_test_split.txt", "1 1\n2 2\n", r"line 2: expected 1 \(train\) or 0 \(test\), got '2'"),
        ("train_test_split.txt", "1 1\n2 1\n", "has no line for image 3"),
        ("bounding_boxes.txt", "1 1 2 3\n", "bounding_boxes.txt, line 1: expected 5 fields, got '1 1 2 3'"),
        ("bounding_boxes.txt", "1 1 2 x 4\n", "line 1: expected numbers, got '1 2 x 4'"),
        ("bounding_boxes.txt", "1 1 2 0 4\n", "line 1: the box has no area: width 0, height 4"),
        ("parts/part_locs.txt", "1 1 2 3 1\n1 3 2 3 1\n", "part_locs.txt, line 2: part '3' is not in parts.txt"),
    ],
)
def test_errors_name_file_and_line(root: Path, name: str, text: str, message: str) -> None:
    (root / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_cub(root)


def test_the_real_photographs() -> None:
    if "FIELDMARK_DATA" not in os.environ:
        pytest.skip("FIELDMARK_DATA does not name a folder of real photographs")
    root = Path(os.environ["FIELDMARK_DATA"]) / "CUB_200_2011_first50"
    if not root.is_dir():
        pytest.skip(f"{root.name} is not in FIELDMARK_DATA")
    catalog = read(root)
    assert (len(catalog), len(catalog.rows("train")), len(catalog.rows("test"))) == (2889, 1500, 1389)
    assert len(catalog.classes) == 50
    assert catalog.classes[:2] == ("Black footed Albatross", "Laysan Albatross")
    assert len(catalog.keypoint_names) == 15
    assert catalog.boxes is not None
    assert catalog.keypoints is not None
    assert not np.isnan(catalog.boxes).any()
    visible = catalog.keypoints[..., 2] == 1
    assert (np.isnan(catalog.keypoints[..., 0]) == ~visible).all()
    assert visible.sum() == 43335 - 9634
    assert all(
        folder.split(".")[1].replace("_", " ") == catalog.classes[label]
        for folder, label in zip((path.split("/")[1] for path in catalog.paths), catalog.labels, strict=True)
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_an_official_file_that_is_a_pipe(root: Path) -> None:
    (root / "bounding_boxes.txt").unlink()
    os.mkfifo(root / "bounding_boxes.txt")
    with pytest.raises(DataError, match=r"bounding_boxes\.txt: it is not a regular file"):
        read_cub(root)
