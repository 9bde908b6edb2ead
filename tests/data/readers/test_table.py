from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.readers.folder import natural_key
from fieldmark.data.readers.sheet import header_of
from fieldmark.data.readers.table import listed_paths, read_table
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.data.write import write_catalog

pytestmark = pytest.mark.filterwarnings("error::fieldmark.core.errors.DataWarning")


def write(folder: Path, text: str, name: str = "birds.csv", encoding: str = "utf-8") -> Path:
    """A table, and an empty file for each of a.jpg, b.jpg, c.jpg."""
    for image in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / image).touch()
    (folder / name).write_text(text, encoding=encoding)
    return folder / name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(("delimiter", "name"), [(",", "birds.csv"), (";", "birds.csv"), ("\t", "birds.TSV")])
def test_text_tables(tmp_path: Path, encoding: str, delimiter: str, name: str) -> None:
    lines = ["path,label,split,group", "a.jpg,01,train,g1", "", "b.jpg,1,Test,", " c.jpg , 10 ,validation,g1"]
    file = write(tmp_path, "\r\n".join(lines).replace(",", delimiter), name, encoding)
    catalog = read_table(file)
    assert catalog.name == "birds"
    assert catalog.root == tmp_path
    assert catalog.paths == ("a.jpg", "b.jpg", "c.jpg")
    assert [catalog.classes[label] for label in catalog.labels] == ["01", "1", "10"]
    assert catalog.splits.tolist() == ["train", "test", "val"]
    assert catalog.groups.tolist() == ["g1", "", "g1"]
    assert header_of(file) == ["path", "label", "split", "group"]


def test_quoted_fields_and_line_numbers(tmp_path: Path) -> None:
    file = write(tmp_path, 'path,label,split\na.jpg,"gull, ""common""\nLarus canus",train\nb.jpg,x,nowhere\n')
    with pytest.raises(
        DataError, match=r"birds.csv, line 4: unknown split 'nowhere' in the column 'split'. Known: dev, te"
    ):
        read_table(file)


def test_parquet(tmp_path: Path) -> None:
    write(tmp_path, "")
    table = pa.table(
        {
            "path": ["a.jpg", "b.jpg", "c.jpg"],
            "label": pa.array(["gull", "crow", "gull"]).dictionary_encode(),
            "x": [1.5, None, 2],
            "y": [1, 2, 3],
            "width": [4, 4, 4],
            "height": [5.25, 5, 5],
            "keypoint.beak.x": [1.0, 2.0, None],
            "keypoint.beak.y": [1.0, 2.0, None],
            "keypoint.beak.visible": [True, False, None],
            "attribute.age": [None, "2", "3"],
        }
    )
    pq.write_table(table, tmp_path / "birds.parquet")
    catalog = read_table(tmp_path / "birds.parquet")
    assert catalog.classes == ("crow", "gull")
    assert catalog.labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(catalog.boxes, [[1.5, 1, 4, 5.25], [np.nan] * 4, [2, 3, 4, 5]])
    np.testing.assert_array_equal(catalog.keypoints, [[[1, 1, 1]], [[2, 2, 0]], [[np.nan, np.nan, 0]]])
    assert catalog.attributes["age"].tolist() == ["", "2", "3"]


def test_parquet_labels_of_numbers_are_strings(tmp_path: Path) -> None:
    write(tmp_path, "")
    pq.write_table(pa.table({"path": ["a.jpg", "b.jpg"], "label": [7, 11]}), tmp_path / "n.parquet")
    assert read_table(tmp_path / "n.parquet").classes == ("7", "11")


def test_parquet_errors_name_the_row(tmp_path: Path) -> None:
    write(tmp_path, "")
    pq.write_table(pa.table({"path": ["a.jpg", "b.jpg"], "label": ["x", None]}), tmp_path / "n.parquet")
    with pytest.raises(DataError, match=r"n.parquet, row 2: the label is empty"):
        read_table(tmp_path / "n.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"broken.parquet cannot be read as Parquet"):
        read_table(tmp_path / "broken.parquet")
    pq.write_table(pa.table({"path": ["a.jpg"], "label": [{"a": 1}]}), tmp_path / "odd.parquet")
    with pytest.raises(DataError, match=r"column 'label' holds struct.*. Expected text, numbers or booleans."):
        read_table(tmp_path / "odd.parquet")


def test_paths_may_be_absolute_or_roundabout(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    (data / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    for image in (data / "sub" / "1.jpg", data / "2.jpg", elsewhere / "3.jpg", elsewhere / "4.jpg", data / "5.jpg"):
        image.touch()
    lines = [r"sub\1.jpg", "./2.jpg", "../elsewhere/3.jpg", str(elsewhere / "4.jpg"), str(data / "5.jpg")]
    file = write(data, "\n".join(["path,label", *(f"{line},x" for line in lines)]))
    catalog = read_table(file)
    assert catalog.paths == ("sub/1.jpg", "2.jpg", "../elsewhere/3.jpg", str(elsewhere / "4.jpg"), "5.jpg")
    assert catalog.root == data
    assert all(catalog.file(row).is_file() for row in range(5))


def test_boxes_and_keypoints(tmp_path: Path) -> None:
    header = "path,label,x,y,width,height,keypoint.left.eye.x,keypoint.left.eye.y,keypoint.tail.x,keypoint.tail.y"
    file = write(tmp_path, f"{header}\na.jpg,u,1,2,3,4,5,6,7,8\nb.jpg,v,1,2,3,,,,,\n")
    catalog = read_table(file)
    nan = np.nan
    np.testing.assert_array_equal(catalog.boxes, [[1, 2, 3, 4], [nan] * 4])
    assert catalog.keypoint_names == ("left.eye", "tail")
    np.testing.assert_array_equal(catalog.keypoints, [[[5, 6, 1], [7, 8, 1]], [[nan, nan, 0], [nan, nan, 0]]])


def test_a_key_point_at_zero_is_one_that_was_not_seen(tmp_path: Path) -> None:
    """Unless it says that it was."""
    file = write(tmp_path, "path,label,keypoint.tail.x,keypoint.tail.y\na.jpg,u,0,0\nb.jpg,v,0,3\n")
    with pytest.warns(
        DataWarning, match=r"the key point 'tail' lies at 0, 0 in 1 image and counts as not visible there"
    ):
        points = read_table(file).keypoints
    np.testing.assert_array_equal(points, [[[0, 0, 0]], [[0, 3, 1]]])
    file = write(tmp_path, "path,label,keypoint.tail.x,keypoint.tail.y,keypoint.tail.visible\na.jpg,u,0,0,1\n")
    np.testing.assert_array_equal(read_table(file).keypoints, [[[0, 0, 1]]])


def test_levels_stand_finest_first(tmp_path: Path) -> None:
    text = "path,label,level.family,level.genus\na.jpg,x,F,G1\nb.jpg,y,F,G2\nc.jpg,x,,\n"
    assert list(read_table(write(tmp_path, text)).taxonomy.items()) == [("genus", ("G1", "G2")), ("family", ("F", "F"))]


def test_rows_without_split_are_train_where_others_have_one(tmp_path: Path) -> None:
    file = write(tmp_path, "path,label,split\na.jpg,x,test\nb.jpg,y,\nc.jpg,y,\n")
    with pytest.warns(DataWarning, match=r"2 of 3 rows of .*birds.csv have no split and count as train"):
        assert read_table(file).splits.tolist() == ["test", "train", "train"]


def test_an_empty_split_column_is_no_split(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, "path,label,split\na.jpg,x,\nb.jpg,y,\n")).splits.tolist() == ["", ""]


def test_unknown_columns_are_named(tmp_path: Path) -> None:
    file = write(tmp_path, "path,label,photographer,keypoint.beak\na.jpg,x,me,3\n")
    with pytest.warns(
        DataWarning, match=r"Unknown columns in .*birds.csv are left out: 'photographer', 'keypoint.beak'"
    ):
        read_table(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"birds.csv has no columns 'path' and 'label'; its columns are: none"),
        (
            "path,label,keypoint.tail.x,keypoint.tail.y\na.jpg,x,3,\n",
            r"birds.csv, line 2: the key point 'tail' has only one of x and y. Give both, or neither if the point is "
            r"not visible.",
        ),
        ("path,Labels\n", r"has no column 'label'; its columns are: path, Labels. .* --columns label=Labels."),
        (
            "file,label\na.jpg,x\n",
            r"no column 'path'; its columns are: file, label. Rename the column that holds it, or say what it is "
            r"called: --columns path=file.",
        ),
        ("path,label,label\n", r"has more than one column 'label'"),
        ("path,label\n", r"birds.csv has no rows. Expected one row per image."),
        ("path,label\na.jpg,x\nb.jpg\n", r"line 3: 1 field, but the header has 2"),
        ("path,label\na.jpg,x\nb.jpg,\n", r"line 3: the label is empty"),
        ("path,label\n,x\n", r"line 2: the path is empty"),
        ("path,label\na.jpg,x\n./a.jpg,y\n", r"line 3: a.jpg is already listed in line 2. List each image once."),
        ('path,label\na.jpg,"x\n', r"line 2: unexpected end of data"),
        (
            "path,label\na.jpg,x\n1.jpg,x\n2.jpg,x\n3.jpg,x\n4.jpg,x\n",
            r"4 of 5 images listed in .*birds.csv are missing: 1.jpg \(line 3\), 2.jpg \(line 4\), 3.jpg \(line 5\) "
            r"and 1 more. Fieldmark looked for them in ",
        ),
        (
            "path,label,x,y,width,height\na.jpg,x,1,2,3,4\nb.jpg,x,1,2,12px,4\n",
            r"line 3: '12px' in the column 'width' is not",
        ),
        ("path,label,x,y,width,height\na.jpg,x,1,2,inf,4\n", r"line 2: 'inf' in the column 'width' is not a number"),
        ("path,label,x,y,width,height\na.jpg,x,1,2,-3,4\n", r"line 2: the box has no area: width -3, height 4"),
        (
            "path,label,x,y,width\na.jpg,x,1,2,3\n",
            r"has the box columns x, y, width but not height. Give all four columns.",
        ),
        (
            "path,label,keypoint.eye.x\na.jpg,x,1\n",
            r"lacks the column 'keypoint.eye.y'. A key point needs both x and y.",
        ),
        (
            "path,label,keypoint.e.x,keypoint.e.y,keypoint.e.visible\na.jpg,x,1,1,maybe\n",
            r"line 2: 'maybe' in the column 'key",
        ),
        ("path,label,level.genus\na.jpg,x,G\nb.jpg,x,H\n", r"line 3: class 'x' has genus 'H', but 'G' in line 2"),
        (
            "path,label,level.genus\na.jpg,x,G\nb.jpg,y,\n",
            r"class 'y' has no genus. Fill in 'level.genus' for every class.",
        ),
        (
            "path,label,level.genus,level.family\na.jpg,x,G,F1\nb.jpg,y,G,F2\nc.jpg,z,H,F1\n",
            r"1 of 2 names of level.genus lie under more than one name of level.family, such as 'G' under 'F1' and "
            r"'F2'. If this is a mistake, correct the rows. If genus and family are independent, .* make one an "
            r"attribute \(attribute.family in place of level.family\), or join both in one level \('G F1'\).",
        ),
    ],
)
def test_errors_say_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, text))


def test_columns_of_other_names(tmp_path: Path) -> None:
    file = write(tmp_path, "filename;label;species;sex\na.jpg;1;gull;f\nb.jpg;2;crow;m\n")
    columns = {"path": "filename", "label": "species", "attribute.sex": "sex"}
    with pytest.warns(DataWarning, match="Unknown columns in .* are left out: 'label'$"):
        catalog = read_table(file, columns)
    assert catalog.classes == ("crow", "gull")
    assert catalog.attributes["sex"].tolist() == ["f", "m"]
    assert listed_paths(file, {"path": "filename"}) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]


def test_positions_in_a_table_without_a_header(tmp_path: Path) -> None:
    file = write(tmp_path, "gull,a.jpg\ncrow,b.jpg\n")
    with pytest.raises(DataError, match=r"the first line looks like data \(gull, a.jpg\).* --columns path=2,label=1\."):
        read_table(file)
    catalog = read_table(file, {"path": "2", "label": "1"})
    assert (catalog.paths, catalog.classes) == (("a.jpg", "b.jpg"), ("crow", "gull"))


def test_independent_levels_can_be_attributes(tmp_path: Path) -> None:
    """As the message about them says."""
    text = "path,label,level.make,level.body\na.jpg,x,Audi,Coupe\nb.jpg,y,Audi,Sedan\nc.jpg,z,BMW,Coupe\n"
    with pytest.raises(DataError, match=r"1 of 2 names of level.make lie under .* 'Audi' under 'Coupe' and 'Sedan'"):
        read_table(write(tmp_path, text))
    catalog = read_table(write(tmp_path, text.replace("level.body", "attribute.body")))
    assert list(catalog.taxonomy) == ["make"]
    assert catalog.attributes["body"].tolist() == ["Coupe", "Sedan", "Coupe"]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_written_catalogue_reads_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("written")
    num = data.draw(st.integers(1, 4))
    word = st.text("aé,;\"'=-@\n1_ .", min_size=1).map(str.strip).filter(bool)
    classes = tuple(sorted(data.draw(st.lists(word, min_size=num, max_size=num, unique=True)), key=natural_key))
    number = st.none() | st.floats(-1e5, 1e5, width=32)
    # one class for each sample, and each class once: a table knows no class without an image
    labels = np.array(data.draw(st.permutations(range(num))))
    places = np.array(data.draw(st.lists(st.tuples(number, number), min_size=num, max_size=num)), np.float32)
    places[np.isnan(places).any(1)] = np.nan
    shown = np.array(data.draw(st.lists(st.booleans(), min_size=num, max_size=num))) & ~np.isnan(places[:, 0])
    boxes = np.abs(np.tile(places, 2)) + 1
    for k in range(num):
        (folder / f"{k}.jpg").touch()
    catalog = Catalog(
        "birds",
        folder,
        tuple(f"{k}.jpg" for k in range(num)),
        labels,
        classes,
        np.array(data.draw(st.lists(st.sampled_from(SPLITS), min_size=num, max_size=num))),
        np.array(data.draw(st.lists(st.sampled_from(["", "one burst"]), min_size=num, max_size=num))),
        boxes,
        ("left eye",),
        np.column_stack([places, shown])[:, None].astype(np.float32),
        Taxonomy.of(classes, {"genus": ("Larus",) * num}),
        {"sex": np.array(["f"] * num)},
    )
    write_catalog(folder / "birds.csv", catalog)
    again = read_table(folder / "birds.csv")
    assert (again.paths, again.classes, again.taxonomy) == (catalog.paths, catalog.classes, catalog.taxonomy)
    assert again.keypoint_names == catalog.keypoint_names
    assert again.attributes["sex"].tolist() == ["f"] * num
    for name in ("labels", "splits", "groups", "boxes", "keypoints"):
        np.testing.assert_array_equal(getattr(again, name), getattr(catalog, name))
