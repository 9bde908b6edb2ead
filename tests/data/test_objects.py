"""Where the object is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.core.errors import DataError
from fieldmark.data.objects import knows_object, object_in
from fieldmark.data.readers.table import read_table


def table(folder: Path, header: str, *rows: str) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 10)).save(folder / name)
    mask = np.zeros((10, 20), np.uint8)
    mask[2:4, 5:9] = 3  # the number of a part
    Image.fromarray(mask).save(folder / "mask.png")
    (folder / "birds.csv").write_text("\n".join([header, *rows, ""]))
    return folder / "birds.csv"


def test_a_mask_before_a_box(tmp_path: Path) -> None:
    header = "path,label,mask,x,y,width,height"
    catalog = read_table(table(tmp_path, header, "a.png,A,mask.png,0,0,20,10", "b.png,B,,10,6,10,4"))
    assert knows_object(catalog).tolist() == [True, True]
    pixels = np.zeros((5, 10, 3), np.uint8)  # decoded to half of its size
    shown = object_in(catalog, 0, pixels, None)
    assert shown is not None
    assert np.argwhere(shown).tolist() == [[1, 2], [1, 3]]
    assert catalog.boxes is not None
    boxed = object_in(catalog, 1, pixels, catalog.boxes[1] / 2)
    assert boxed is not None
    assert boxed[3:, 5:].all()
    assert boxed.sum() == 2 * 5
    assert "masks" in repr(catalog)
    assert catalog.select(np.array([1])).masks == ("",)


def test_nothing_known(tmp_path: Path) -> None:
    catalog = read_table(table(tmp_path, "path,label", "a.png,A", "b.png,B"))
    assert not knows_object(catalog).any()
    assert object_in(catalog, 0, np.zeros((10, 20, 3), np.uint8), None) is None


def test_a_mask_of_another_shape(tmp_path: Path) -> None:
    catalog = read_table(table(tmp_path, "path,label,mask", "a.png,A,mask.png", "b.png,B,"))
    with pytest.raises(DataError, match="same shape as its picture"):
        object_in(catalog, 0, np.zeros((10, 10, 3), np.uint8), None)


def test_a_mask_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.png"):
        read_table(table(tmp_path, "path,label,mask", "a.png,A,nowhere.png", "b.png,B,"))
