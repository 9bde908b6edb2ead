"""`fieldmark export`: the graph answers as the network does, without torch, and what is not right is refused."""

from __future__ import annotations

import importlib.util
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import paint
from fieldmark.answering.onnx import OnnxEngine
from fieldmark.answering.predictor import Predictor
from fieldmark.commands.bundle import bundle
from fieldmark.commands.enrol import enrol
from fieldmark.commands.export import export
from fieldmark.core.claims import check_replaceable
from fieldmark.core.errors import RunError
from fieldmark.exporting.rules import rules
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.exported import read_onnx
from fieldmark.runs.run import Run
from support.calibrations import any_calibration

Cli = Callable[..., Any]
EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_verdicts.py"
SAME = ("label", "name", "level", "familiar", "possible")


@pytest.fixture(scope="module")
def _exported(_trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an enrolled class, exported once."""
    folder = shutil.copytree(_trained, tmp_path_factory.mktemp("exported") / "run")
    teal = folder.parent / "teal"
    teal.mkdir()
    for i in range(5):
        paint((0, 250, 250), 900 + i).save(teal / f"{i}.png")
    enrol(folder, "teal", teal)
    export(folder)
    return folder


@pytest.fixture
def exported(_exported: Path, tmp_path: Path) -> Run:
    """A copy, to be done with as one likes."""
    return Run(shutil.copytree(_exported, tmp_path / "run"))


def turned(folder: Path) -> Path:
    """A large photograph that its EXIF data turns."""
    exif = Image.Exif()
    exif[0x0112] = 6
    folder.mkdir(exist_ok=True)
    path = folder / "turned.jpg"
    paint((220, 160, 40), 5, size=(480, 300)).save(path, exif=exif)
    return path


def test_a_bundle_with_its_graph_answers_as_before(exported: Run, pictures: Path, tmp_path: Path) -> None:
    seen = [*sorted(pictures.rglob("*.png")), turned(tmp_path / "more")]
    by_graph, by_torch = Predictor.load(exported.folder), Predictor.load(exported.folder, engine="torch")
    assert isinstance(by_graph.engine, OnnxEngine)
    assert not isinstance(by_torch.engine, OnnxEngine)
    ours, theirs = by_torch.outputs(seen), by_graph.outputs(seen)
    assert ours.logits.shape == (43, 4)
    np.testing.assert_allclose(theirs.logits, ours.logits, atol=1e-4)
    np.testing.assert_allclose(theirs.embedding, ours.embedding, atol=1e-4)
    for one, other in zip(by_torch.predict(seen), by_graph.predict(seen), strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
        assert [getattr(one, name) for name in SAME] == [getattr(other, name) for name in SAME]


def test_it_says_how_it_was_checked(exported: Run) -> None:
    about = json.loads((exported.bundle / "onnx.json").read_text())
    assert about["precision"] == "fp32"
    assert about["checked"]["source"] == "val"
    assert about["checked"]["images"] == sum(one["split"] == "val" for one in exported.images())
    assert about["checked"]["accuracy"] == about["checked"]["before"]
    assert about["checked"]["largest_difference"] < 1e-4


def test_torch_is_not_needed_to_answer(exported: Run, pictures: Path) -> None:
    code = (
        "import sys, fieldmark; "
        f"print(fieldmark.Predictor.load({str(exported.folder)!r}).predict({str(pictures / 'jade' / '00.png')!r})[0]); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Verdict("), done.stderr
    assert done.stdout.endswith("False\n")


def test_the_example_gives_the_same_verdicts(exported: Run, pictures: Path, tmp_path: Path) -> None:
    """Neither torch nor Fieldmark is there."""
    seen = [*map(str, sorted(pictures.rglob("0*.png"))), str(turned(tmp_path / "more"))]
    code = (
        "import runpy, sys; sys.modules['torch'] = sys.modules['fieldmark'] = None; "
        f"sys.argv = ['example', {str(exported.bundle / 'model.onnx')!r}, *{seen!r}]; "
        f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    ours = [one.as_dict() for one in Predictor.load(exported.folder, engine="torch").predict(seen)]
    assert len(theirs) == len(ours) == 31
    for one, other in zip(ours, theirs, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
        assert {name: one.get(name) for name in SAME} == {name: other.get(name) for name in SAME}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_rules_of_the_example_are_those_of_verdicts(seed: int) -> None:
    """Of any calibration: with a taxonomy, in either order, sure and unsure, with sets or without."""
    bundle, thresholds, log_probabilities, near = any_calibration(seed)
    assert bundle.calibration is not None
    scores = bundle.calibration.familiarity.score(np.exp(log_probabilities).max(axis=1), near)
    verdict, told = runpy.run_path(str(EXAMPLE))["verdict"], json.loads(json.dumps(rules(bundle)))
    said = thresholds.verdicts([""] * 20, log_probabilities, near)
    for one, row, score in zip(said, log_probabilities, scores, strict=True):
        other = verdict(told, row, score)
        assert one.probability == pytest.approx(other["probability"])
        assert (one.certainty is None) == ("certainty" not in other)
        assert one.certainty is None or one.certainty == pytest.approx(other["certainty"])
        possible = None if one.possible is None else list(one.possible)
        assert (one.label, one.name, one.level, one.familiar) == tuple(other[k] for k in SAME[:4])
        assert possible == other.get("possible")


def test_classes_that_come_later_are_not_in_the_graph(exported: Run) -> None:
    """It is of no use then, and torch answers until it is made again."""
    enrol(exported.folder, "teal", remove=True)
    bundle = Bundle.load(exported.folder)
    assert read_onnx(bundle) is None
    assert not isinstance(Predictor.load(exported.folder).engine, OnnxEngine)
    with pytest.raises(RunError, match=r"has no model\.onnx for its classes\. Make one with: fieldmark export RUN"):
        Predictor.load(exported.folder, engine="onnx")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda data: data[:-1] + bytes([data[-1] ^ 1]),
            r"is not the one in onnx\.json\. Export the run again, or delete onnx\.json",
        ),
        (lambda data: b"no graph at all", r"is not the one in onnx\.json\. Export the run again, or delete onnx\.json"),
    ],
)
def test_a_changed_graph_is_refused(exported: Run, change: Callable[[bytes], bytes], complaint: str) -> None:
    path = exported.bundle / "model.onnx"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(RunError, match=complaint):
        Predictor.load(exported.folder)


def test_a_check_reads_the_graph_without_onnx_runtime(exported: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldmark.commands.bundle.has_onnx", lambda: False)
    assert "has a graph, not tried without ONNX Runtime" in bundle(exported.bundle, check=True).notes
    with (exported.bundle / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match=r"is not the one in onnx\.json"):
        bundle(exported.bundle, check=True)


def test_one_tolerance(exported: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "answers without PyTorch" in bundle(exported.bundle, check=True).notes
    monkeypatch.setattr("fieldmark.exporting.checking.TOLERANCE", -1.0)
    with pytest.raises(RunError, match="does not answer as the network does"):
        bundle(exported.bundle, check=True)
    with pytest.raises(RunError, match="does not answer as the network does"):
        export(exported.folder)


def test_a_graph_may_be_as_large_as_weights(exported: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (exported.bundle / "model.onnx").stat().st_size
    monkeypatch.setattr("fieldmark.runs.description.MOST", size - 1)
    assert read_onnx(Bundle.load(exported.folder)) is not None


def test_a_graph_that_no_file_holds_is_refused() -> None:
    from google.protobuf.message import EncodeError

    from fieldmark.model.graph import serialized

    class Large:
        def SerializeToString(self) -> bytes:
            raise EncodeError("Failed to serialize proto")

    with pytest.raises(RunError, match=r"too large: an ONNX graph has at most 2 GB"):
        serialized(Large())  # type: ignore[arg-type]  # it stands in for 2 GB


def test_a_graph_of_something_else_is_refused(exported: Run) -> None:
    """Also by whoever trusts its checksum."""
    import onnx
    from onnx import TensorProto, helper

    data = (exported.bundle / "model.onnx").read_bytes()
    bundle = Bundle.load(exported.folder)
    with pytest.raises(RunError, match="does not belong to this bundle"):
        OnnxEngine(data, bundle.trained)
    with pytest.raises(RunError, match="cannot be used by ONNX Runtime"):
        OnnxEngine(b"no graph at all", bundle)
    graph = onnx.load_from_string(data)
    outside = helper.make_tensor("secret", TensorProto.FLOAT, [1], b"\0\0\0\0", raw=True)
    outside.data_location = TensorProto.EXTERNAL
    outside.ClearField("raw_data")
    entry = outside.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    graph.graph.initializer.append(outside)
    with pytest.raises(RunError, match="has tensors in other files, as no graph of Fieldmark's has"):
        OnnxEngine(graph.SerializeToString(), bundle)
    graph = onnx.load_from_string(data)
    graph.opset_import.append(helper.make_opsetid("of.mine", 1))
    graph.graph.node[0].domain, graph.graph.node[0].op_type = "of.mine", "Surprise"
    with pytest.raises(RunError, match="has operators of its own"):
        OnnxEngine(graph.SerializeToString(), bundle)


def test_on_the_command_line(trained: Run, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "birds.onnx"
    answer = cli("export", trained.folder, "--out", out)
    assert answer.status == 0
    assert "its logits differ by at most" in answer.out
    assert not (trained.bundle / "onnx.json").exists()
    check_replaceable(out)  # its own file
    out.write_text("a file of mine")
    assert "birds.onnx" in cli("export", trained.folder, "--out", out).complaint
    assert out.read_text() == "a file of mine"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits(trained: Run, precision: Any) -> None:
    found = export(trained.folder, precision=precision, allow_loss=True)
    assert found.path == trained.folder / "exports" / f"model-{precision}.onnx"
    assert found.checked.agreement > 0.5
    engine = OnnxEngine(found.path.read_bytes(), Bundle.load(trained.folder))
    assert json.loads(engine.session.get_modelmeta().custom_metadata_map["fieldmark.checked"])["precision"] == precision
    assert not isinstance(Predictor.load(trained.folder).engine, OnnxEngine), "a bundle answers in full precision"


def test_what_loses_more_than_a_point_is_refused(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldmark.commands.export._MOST_LOST", -1.0)
    with pytest.raises(RunError, match=r"In fp16, 0\.0 points of accuracy are lost\. .* accept that with --allow-loss"):
        export(trained.folder, precision="fp16")
    assert not (trained.folder / "exports").exists()


def test_without_the_data_noise_is_compared(trained: Run, tmp_path: Path) -> None:
    bundle = Path(shutil.move(trained.bundle, tmp_path / "alone"))
    found = export(bundle)
    assert (found.checked.source, found.checked.accuracy) == ("noise", None)
    assert isinstance(Predictor.load(bundle).engine, OnnxEngine)


def test_packages_that_are_missing(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(*names: str) -> Callable[[str], Any]:
        return lambda name, package=None: None if name in names else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without("onnxscript"))
    with pytest.raises(RunError, match=r"^Exporting needs onnxscript, which is not installed\. .*fieldmark\[onnx\]"):
        export(trained.folder)
    monkeypatch.setattr(importlib.util, "find_spec", without("onnxscript", "onnxruntime"))
    with pytest.raises(RunError, match=r"^Exporting needs onnxscript and onnxruntime, which are not installed"):
        export(trained.folder)
    with pytest.raises(RunError, match="ONNX Runtime is not installed"):
        Predictor.load(trained.folder, engine="onnx")
