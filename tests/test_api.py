"""What a notebook user meets: the README's lines, objects that say what they are, scikit-learn's manners."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

import fieldmark
from fieldmark.augment.mixing import KINDS
from fieldmark.core.errors import DataError, FieldmarkError, ImageError
from fieldmark.model.auxiliaries.auxiliary import AUXILIARIES
from fieldmark.model.heads.classifier import CLASSIFIERS
from fieldmark.model.losses.loss import LOSSES
from fieldmark.model.method import METHODS
from fieldmark.model.necks.neck import NECKS

PIECES = (("method", METHODS), ("neck", NECKS), ("head", CLASSIFIERS), ("loss", LOSSES), ("auxiliary", AUXILIARIES))
PROBE = """
protocol = "holdout"
images = {size = 32}
backbone = {name = "test_resnet", weights = "none"}
train = {solver = "logistic"}
"""


@pytest.fixture
def probe(tmp_path: Path) -> str:
    (tmp_path / "tiny.toml").write_text(PROBE)
    return str(tmp_path / "tiny.toml")


@pytest.fixture
def files(pictures: Path) -> list[Path]:
    return sorted(pictures.rglob("*.png"))


def test_the_readme(
    pictures: Path, files: list[Path], probe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert '"probe"' in snippet
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pictures, "photographs")
    shutil.copy(files[0], "new.jpg")
    names = {"files": files, "labels": [file.parent.name for file in files]}
    exec(snippet.replace('"probe"', repr(probe)), names)
    assert repr(names["catalog"]) == "Catalog('photographs': 42 images, 3 classes, not split)"
    assert repr(names["run"]) == "Run('runs/birds', finished)"
    device = names["predictor"].device
    assert repr(names["predictor"]) == f"Predictor(Bundle(transfer on test_resnet, 3 classes, 32 px) on {device})"
    assert names["classifier"].predict_proba(["new.jpg"]).shape == (1, 3)


def test_the_guide_names_every_piece() -> None:
    guide = (Path(__file__).parents[1] / "docs" / "guide" / "recipes.md").read_text(encoding="utf-8")
    optional = {"neck", "auxiliary"}
    listed = {
        f"{section}.name": {*registry, *(["none"] if section in optional else [])} for section, registry in PIECES
    }
    for key, names in (listed | {"augment.mix": {*KINDS}}).items():
        (line,) = re.findall(rf"^\| `{re.escape(key)}` \| (.*) \|$", guide, flags=re.MULTILINE)
        assert set(re.findall("`(.*?)`", line)) == names


def test_everything_that_is_promised_is_there() -> None:
    assert dir(fieldmark) == sorted(fieldmark.__all__)
    for name in fieldmark.__all__:
        assert getattr(fieldmark, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = fieldmark.trian
    errors = [getattr(fieldmark, name) for name in fieldmark.__all__ if name.endswith("Error")]
    assert all(issubclass(error, FieldmarkError) for error in errors)


def test_reprs(pictures: Path, files: list[Path], probe: str, tmp_path: Path) -> None:
    run = fieldmark.Run(tmp_path / "run")
    assert repr(run) == f"Run({str(tmp_path / 'run')!r}, not finished)"
    run = fieldmark.train(pictures, probe, out=run.folder)
    assert repr(run) == f"Run({str(tmp_path / 'run')!r}, finished)"
    bundle = fieldmark.Predictor.load(run.folder)
    (verdict,) = bundle.predict(files[:1])
    said = r"likely \w+, not vouched for [\d.]+ %; .*then \w+ \d+ %, \w+ \d+ %"
    assert re.fullmatch(rf"Verdict\({files[0]}: {said}\)", repr(verdict))
    result = fieldmark.evaluate(run.folder)
    assert re.fullmatch(r"Score\([\d.]+ % \([\d.]+–[\d.]+\)\)", repr(result.scores["top1"]))
    assert repr(fieldmark.Classifier(recipe="probe")) == "Classifier(recipe='probe')"


def test_bundle_answers(pictures: Path, files: list[Path], probe: str, tmp_path: Path) -> None:
    bundle = fieldmark.Predictor.load(fieldmark.train(pictures, probe, out=tmp_path / "run").folder)
    probabilities, embedding = bundle.predict_proba(files), bundle.embed([str(file) for file in files])
    assert probabilities.shape == (42, 3)
    assert probabilities.sum(1) == pytest.approx(np.ones(42))
    assert np.linalg.norm(embedding, axis=1) == pytest.approx(np.ones(42), abs=1e-5)
    assert [v.label for v in bundle.predict(files)] == [bundle.classes[k] for k in probabilities.argmax(1)]
    from_bytes = bundle.outputs([files[0].read_bytes()])
    assert np.array_equal(from_bytes.logits, bundle.outputs(files[:1]).logits)
    (verdict,) = bundle.predict(files[:1], among=["jade", "plum"])
    assert verdict.label in ("jade", "plum")
    assert verdict.outside == pytest.approx(probabilities[0, 0], abs=1e-6)
    with pytest.raises(ImageError, match="does not exist"):
        bundle.predict(["absent.jpg"])


def test_classifier_has_scikit_learns_manners(files: list[Path], probe: str, tmp_path: Path) -> None:
    labels = [file.parent.name for file in files]
    classifier = fieldmark.Classifier(recipe=probe, out=str(tmp_path / "kept"))
    with pytest.raises(NotFittedError):
        classifier.predict(files)
    assert classifier.fit(files, labels) is classifier
    assert classifier.classes_.tolist() == ["amber", "jade", "plum"]
    assert classifier.predict(files).tolist() == classifier.classes_[classifier.predict_proba(files).argmax(1)].tolist()
    assert classifier.embed(files[:2]).shape[0] == 2
    assert classifier.score(files, labels) > 0.5
    assert fieldmark.Run(tmp_path / "kept").is_finished
    assert fieldmark.Run(tmp_path / "kept").recipe().protocol == "refit"
    copy = clone(classifier).set_params(out=None)
    assert copy.get_params()["recipe"] == probe
    assert len(cross_val_score(copy, np.array(files, dtype=object), labels, cv=2)) == 2


def test_classifier_refuses_what_does_not_match(files: list[Path], probe: str) -> None:
    classifier = fieldmark.Classifier(recipe=probe)
    with pytest.raises(DataError, match="42 images, 1 label"):
        classifier.fit(files, ["jade"])
    with pytest.raises(DataError, match=r"cannot be found, such as absent\.png"):
        classifier.fit(["absent.png"], ["jade"])
    with pytest.raises(DataError, match="only 1 class"):
        classifier.fit(files[:4], ["jade"] * 4)
