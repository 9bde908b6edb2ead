"""Fieldmark as scikit-learn's users know it."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fieldmark.answering.predictor import Predictor
from fieldmark.classifier import Classifier
from fieldmark.core.errors import DataError, RecipeError

SETTINGS = ["images.size=32", "train.batch_size=6", "train.lr=5e-3", "train.head_lr=5e-3", "train.precision=fp32"]
SHORT = [*SETTINGS, "train.epochs=2", "train.head_epochs=0"]


def tiny(**options: object) -> Classifier:
    chosen = {"recipe": "finetune", "backbone": "test_resnet", "weights": "none", "overrides": SHORT} | options
    return Classifier(**chosen)


@pytest.fixture(scope="module")
def files(pictures: Path) -> list[Path]:
    return sorted(pictures.rglob("*.png"))


@pytest.fixture(scope="module")
def labels(files: list[Path]) -> list[str]:
    return [file.parent.name for file in files]


@pytest.fixture(scope="module")
def fitted(files: list[Path], labels: list[str]) -> Classifier:
    return tiny().fit(files[::2], labels[::2])


def test_parameters_as_scikit_learn_wants_them() -> None:
    classifier = tiny(out="runs/x")
    names = set(inspect.signature(Classifier).parameters)
    assert set(classifier.get_params()) == names == {"recipe", "backbone", "weights", "overrides", "out", "device"}
    assert clone(classifier).get_params() == classifier.get_params()
    assert classifier.set_params(recipe="probe").recipe == "probe"
    assert "test_resnet" in repr(classifier)


def test_answers(fitted: Classifier, files: list[Path], labels: list[str]) -> None:
    others, truth = files[1::2], labels[1::2]
    probabilities = fitted.predict_proba(others)
    assert fitted.classes_.tolist() == ["amber", "jade", "plum"]
    assert probabilities.shape == (21, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert fitted.predict(others).tolist() == [fitted.classes_[k] for k in probabilities.argmax(1)]
    embedding = fitted.embed([str(file) for file in others])
    assert embedding.shape == (21, 96)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    assert fitted.score(others, truth) == np.mean(fitted.predict(others) == np.array(truth))


def test_a_clone_fits_to_the_same_weights(fitted: Classifier, files: list[Path], labels: list[str]) -> None:
    again = clone(fitted).fit(files[::2], labels[::2])
    np.testing.assert_array_equal(again.predict_proba(files[1::8]), fitted.predict_proba(files[1::8]))


def test_all_rows_are_learnt_from(fitted: Classifier) -> None:
    assert fitted.predictor_.bundle.provenance["images"] == 21
    assert fitted.predictor_.bundle.provenance["protocol"] == "refit"


def test_the_run_is_kept_where_it_is_asked_for(files: list[Path], labels: list[str], tmp_path: Path) -> None:
    kept = tiny(out=str(tmp_path / "run"), recipe="probe", overrides=["images.size=32"]).fit(files, labels)
    np.testing.assert_allclose(
        Predictor.load(tmp_path / "run").predict_proba(files[:3]), kept.predict_proba(files[:3]), rtol=1e-6
    )
    assert kept.score(files, labels) > 0.6  # colours are told apart by random features


def test_it_learns_what_can_be_learnt(files: list[Path], labels: list[str]) -> None:
    longer = tiny(overrides=[*SETTINGS, "train.epochs=12", "train.head_epochs=0"])
    assert longer.fit(files[::2], labels[::2]).score(files[1::2], labels[1::2]) > 0.6


def test_not_fitted(files: list[Path]) -> None:
    for ask in (Classifier().predict, Classifier().predict_proba, Classifier().embed):
        with pytest.raises(NotFittedError):
            ask(files[:1])


def test_data_that_does_not_fit(files: list[Path], labels: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^The number of labels does not match: 42 images, 3 labels\. Give one label for each image\.$"
    ):
        tiny().fit(files, labels[:3])
    with pytest.raises(DataError, match=r"^1 of 2 images cannot be found, such as .*absent\.jpg\. Check the paths\.$"):
        tiny().fit([files[0], tmp_path / "absent.jpg"], ["a", "b"])
    with pytest.raises(DataError, match="training images of only 1 class"):
        tiny().fit(files[:3], labels[:3])
    with pytest.raises(RecipeError, match=r"There is no recipe 'finetun'\. Did you mean 'finetune'\?"):
        tiny(recipe="finetun").fit(files, labels)


def test_labels_that_are_numbers_come_back_as_numbers(pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    numbers = np.array([10 if file.parent.name == "amber" else 9 for file in files])
    overrides = ["images.size=32", "train.epochs=1", "train.head_epochs=0", "train.batch_size=8"]
    classifier = Classifier(backbone="test_byobnet", weights="none", overrides=overrides).fit(files, numbers)
    assert set(classifier.classes_.tolist()) == {9, 10}
    assert 0 <= classifier.score(files, numbers) <= 1
    assert classifier.predict(files[:2]).dtype == numbers.dtype


def test_labels_come_back_as_they_were_given(files: list[Path], labels: list[str]) -> None:
    blank = tiny().fit(files[::2], [f"{label} " for label in labels[::2]])
    assert blank.classes_.tolist() == ["amber ", "jade ", "plum "]
