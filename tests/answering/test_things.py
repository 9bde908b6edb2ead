"""What a user may ask about: everything that holds a picture, and a clear word about what does not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Skipped, named
from fieldmark.commands.predict import predict
from fieldmark.core.errors import DataError, ImageError
from fieldmark.evaluation.verdict import Verdict
from fieldmark.runs.run import Run


@pytest.fixture(scope="module")
def photograph(pictures: Path) -> Path:
    return pictures / "jade" / "00.png"


@pytest.fixture
def predictor(trained: Run) -> Predictor:
    return Predictor.load(trained.folder)


def forms(path: Path) -> dict[str, Any]:
    """One photograph in every form but an open file."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    return {
        "text": str(path),
        "path": path,
        "bytes": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "memory": io.BytesIO(path.read_bytes()),
        "PIL": image,
        "array": np.asarray(image),
        "list": [path],
        "generator": (one for one in [path]),
        "mixed": [np.asarray(image)],
        "objects": np.array([path], dtype=object),
        "batch": np.asarray(image)[None],
    }


def test_every_form_of_a_picture_gets_the_same_answer(predictor: Predictor, photograph: Path) -> None:
    expected = predictor.predict_proba(photograph)
    for form, thing in forms(photograph).items():
        np.testing.assert_allclose(predictor.predict_proba(thing), expected, atol=1e-6, err_msg=form)
    with photograph.open("rb") as file:
        np.testing.assert_array_equal(predictor.predict_proba(file), expected)


def test_grey_arrays_and_modes(predictor: Predictor, photograph: Path) -> None:
    with Image.open(photograph) as image:
        grey, palette = np.asarray(image.convert("L")), image.convert("P")
    repeated = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(predictor.predict_proba(grey), predictor.predict_proba(repeated))
    assert predictor.predict_proba(palette).shape == (1, 3)


def test_names(photograph: Path) -> None:
    with Image.open(photograph) as image:
        arrays = [np.zeros((4, 4), np.uint8), photograph.read_bytes(), image, str(photograph), io.BytesIO(b"x")]
        names = [thing.name for thing in named(arrays)]
    assert names == ["image 1", "image 2", str(photograph), str(photograph), "image 4"]


def test_folders_globs_and_tables(pictures: Path, tmp_path: Path) -> None:
    assert len(list(named(pictures))) == 42
    assert len(list(named(str(pictures / "jade" / "*.png")))) == 14
    table = tmp_path / "new.csv"
    table.write_text(f"when,path\n1,{pictures / 'jade' / '00.png'}\n2,near.png\n")
    assert [thing.source for thing in named(table)] == [pictures / "jade" / "00.png", tmp_path / "near.png"]
    table.write_text("file\na.png\n")
    with pytest.raises(DataError, match=r"has no column 'path'; its columns are: file\. Rename"):
        list(named(table))


def test_data_frames(predictor: Predictor, photograph: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"path": [str(photograph)] * 2, "place": ["a", "b"]})
    np.testing.assert_array_equal(predictor.predict_proba(frame), predictor.predict_proba([photograph] * 2))
    np.testing.assert_array_equal(predictor.predict_proba(frame["path"]), predictor.predict_proba(frame))
    with pytest.raises(DataError, match=r"The data frame has no column 'path'; its columns are: file"):
        predictor.predict(frame.rename(columns={"path": "file"}))


class Columns:
    """What a data frame of any library looks like."""

    columns = ("path",)

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __getitem__(self, name: str) -> list[str]:
        return self.paths


def test_anything_with_the_manners_of_a_data_frame(photograph: Path) -> None:
    assert [thing.name for thing in named(Columns([str(photograph)]))] == [str(photograph)]


@pytest.mark.parametrize(
    ("thing", "complaint"),
    [
        ([], "No images were given"),
        (iter(()), "No images were given"),
        (None, "Expected images but got None"),
        (3, "Expected images but got an object of type int"),
        ({"path": "a.png"}, "Expected images but got an object of type dict"),
        ([3.5], "Expected image 1 to be a picture but got an object of type float"),
        ([None], "Expected image 1 to be a picture but got None"),
        (np.zeros((8, 8, 3)), r"image 1 is an array of float64 of shape \(8, 8, 3\).*255 \* array"),
        (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\).*array\[\.\.\., :3\]"),
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\).*transpose"),
        (np.zeros((8,), np.uint8), r"shape \(8,\)"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
        (np.zeros((8, 8), bool), "array of bool"),
        ([np.zeros((2, 8, 8, 3), np.uint8)], r"shape \(2, 8, 8, 3\)"),
        ([io.StringIO("text")], "The file of image 1 was opened in text mode"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(predictor: Predictor, thing: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint) as refused:
        predictor.predict(thing)
    assert "\n" not in str(refused.value)
    assert not isinstance(refused.value, ImageError)


def test_bytes_that_are_no_image(predictor: Predictor) -> None:
    with pytest.raises(ImageError, match="is not an image of a known format"):
        predictor.predict(b"no image")
    (skipped,) = predict(predictor, [b"no image"])
    assert isinstance(skipped, Skipped)
    assert skipped.path == "image 1"


def test_a_generator_is_taken_once_and_no_further_than_a_batch_ahead(predictor: Predictor, photograph: Path) -> None:
    taken: list[int] = []

    def photographs() -> Iterator[Path]:
        for number in range(100):
            taken.append(number)
            yield photograph

    answers = predict(predictor, photographs())
    next(answers)
    assert len(taken) == 64  # a batch, and the next one, which is decoded meanwhile
    assert sum(1 for _ in answers) == 99
    assert taken == list(range(100))


def test_what_came_before_a_generator_raised_is_answered(predictor: Predictor, photograph: Path) -> None:
    def photographs() -> Iterator[Path]:
        yield photograph
        yield photograph
        raise OSError("the card was pulled out")

    answers = predict(predictor, photographs())
    assert [isinstance(next(answers), Verdict) for _ in range(2)] == [True, True]
    with pytest.raises(OSError, match="the card was pulled out"):
        next(answers)
