"""Bundles that were damaged or written to do harm: one line, no hang, nothing fetched and nothing else opened."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from fieldmark.answering.predictor import Predictor
from fieldmark.core.errors import RunError
from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.core.storage import json_bytes
from fieldmark.data.task import Task
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.calibration import Calibration, Held
from fieldmark.evaluation.unknown import class_means
from fieldmark.model.build import build_model
from fieldmark.runs.description import index_of
from support.models import predictor_of, rewrite
from support.watching import watched

CLASSES = ("amber", "jade", "plum", "rose")
FILES = ("calibration.safetensors", "index.json", "model.json", "model.safetensors")
Values = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated bundle."""
    torch.manual_seed(0)
    rng, recipe = np.random.default_rng(0), Recipe(
        images=Images(size=32),
        backbone=Backbone(name="test_resnet", weights="none", options={"drop_rate": 0.1}),
        method=Choice(name="transfer"),
    )  # fmt: skip
    predictor = predictor_of(
        build_model(recipe, Task(len(CLASSES))).eval(),
        CLASSES,
        recipe,
        taxonomy=Taxonomy.of(CLASSES, {"warmth": ("warm", "cold", "cold", "warm")}),
        provenance={"data": "colours", "seed": 3, "license": "apache-2.0"},
    )
    labels = rng.integers(4, size=300)
    logits = (rng.normal(size=(300, 4)) + 3 * np.eye(4)[labels]).astype(np.float32)
    means = class_means(rng.random((8, predictor.model.backbone.width)), np.arange(8) % 4, 4)
    held = Held(logits, rng.random(300), labels, np.arange(300))
    calibration = Calibration.fit(held, means, predictor.bundle.taxonomy, source="validation")
    folder = tmp_path_factory.mktemp("hostile") / "bundle"
    Predictor(replace(predictor.bundle, calibration=calibration), predictor.model).save(folder)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    return folder


@pytest.fixture(scope="module")
def picture(pictures: Path) -> Path:
    return pictures / "amber" / "00.png"


def answers(folder: Path, picture: Path) -> dict[str, Any]:
    (found,) = Predictor.load(folder).predict([picture])
    return found.as_dict()


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """An alarm, where it would hang."""

    def late(*_: object) -> None:
        raise AssertionError(f"it takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(folder: Path, picture: Path) -> str:
    """The one line that refuses a bundle, or "" if it answers."""
    with at_most(20), watched(folder, picture.parent) as seen:
        try:
            found = answers(folder, picture)
            assert 0 <= found["probability"] <= 1
            json.dumps(found, allow_nan=False)
            text = ""
        except RunError as error:
            text = str(error)
    assert seen == []
    assert "\n" not in text
    assert len(text) < 1500
    assert not text or str(folder) in text or "calibration" in text or "network" in text
    return text


# Flipped bits ---------------------------------------------------------------------------------------------------------


def check_flips(bundle: Path, picture: Path, folder: Path, number: int, seed: int) -> None:
    """Flip one bit at a time, in each file equally often: it is noticed, or changes no answer."""
    rng, right = np.random.default_rng(seed), answers(bundle, picture)
    shutil.copytree(bundle, folder)
    for nth in range(number):
        path = folder / FILES[nth % len(FILES)]
        data = path.read_bytes()
        at, bit = int(rng.integers(len(data))), int(rng.integers(8))
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :])
        told = outcome(folder, picture)
        assert told or answers(folder, picture)["probability"] == pytest.approx(right["probability"], abs=1e-6)
        if path.name != "index.json":
            assert told == f"{path} is damaged: its SHA-256 is not the one in index.json. Copy the bundle again."
        path.write_bytes(data)
    assert outcome(folder, picture) == ""


def test_flipped_bits(bundle: Path, picture: Path, tmp_path: Path) -> None:
    check_flips(bundle, picture, tmp_path / "bundle", 24, seed=1)


@pytest.mark.slow
def test_five_hundred_flipped_bits(bundle: Path, picture: Path, tmp_path: Path) -> None:
    check_flips(bundle, picture, tmp_path / "bundle", 500, seed=2)


def test_a_file_that_is_missing_or_not_in_the_index(bundle: Path, picture: Path, tmp_path: Path) -> None:
    for name in ("calibration.safetensors", "model.json", "model.safetensors"):
        folder = shutil.copytree(bundle, tmp_path / name)
        (folder / name).unlink()
        assert str(folder) in outcome(folder, picture)
        shutil.copy(bundle / name, folder / name)
        index = json.loads((folder / "index.json").read_text())
        del index["sha256"][name]
        (folder / "index.json").write_text(json.dumps(index))
        assert "is damaged: its SHA-256 is not the one" in outcome(folder, picture)


def test_a_bundle_of_before_has_no_index(bundle: Path, picture: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    rewrite(folder)
    assert not (folder / "index.json").exists()
    assert answers(folder, picture) == answers(bundle, picture)


def test_a_bundle_that_has_lost_its_index_is_refused(bundle: Path, picture: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    (folder / "index.json").unlink()
    assert "it has no index.json" in outcome(folder, picture)
    (folder / "index.json").symlink_to(tmp_path / "nowhere")
    assert "it has no index.json" in outcome(folder, picture)


def test_a_photograph_is_no_bundle(picture: Path) -> None:
    with pytest.raises(RunError, match="is neither a finished run nor a bundle"):
        Predictor.load(picture)


# Hostile content ------------------------------------------------------------------------------------------------------

STRANGE = [
    None, True, -1, 0, 2**32, 2**70, 10**400, 1e308, -0.5, 0.1234, "", "\x1b[2J", "x" * 100_000, "../../../etc/passwd",
    "hf-hub:timm/resnet18", "local-dir:/etc", [], {}, [None], [[]] * 3, {"a": {"b": 1}}, {"name": "x"},
]  # fmt: skip
"""What stands where something else should."""
RAW = [
    b"", b"\x00" * 64, b"[" * 200_000, b"[1, 2]", b'{"format": 2, "format": 2}', b"\xff\xfe{", b"null", b"NaN",
    b'{"format": 2, "classes": ["a"], "taxonomy": NaN}', b'{"a":' * 50_000, b'{"format": 1e999}', b"\xef\xbb\xbf{}",
    b'{"format": ' + b"9" * 10_000 + b"}", b'"' + b"x" * 10_000_000,
]  # fmt: skip
OPTIONS = [
    {"pretrained_cfg": {"url": "http://127.0.0.1:9/x", "file": "/etc/passwd"}},
    {"pretrained_cfg_overlay": {"file": "/etc/passwd"}}, {"checkpoint_path": "/etc/passwd"}, {"cache_dir": "/tmp/x"},
    {"pretrained": True}, {"pruned": True}, {"features_only": True}, {"num_classes": 10**9}, {"in_chans": 10**6},
    {"channels": [8192] * 4}, {"layers": [64] * 4}, {"channels": [8192] * 8, "layers": [64] * 8},
    {"drop_rate": 2}, {"img_size": 4096}, {"scriptable": True}, {"act_layer": "os.system"},
]  # fmt: skip
PIECES = [
    {"method": {"name": "bilinear_attention", "maps": 2**31 - 1}}, {"method": {"name": "part_discovery", "parts": -3}},
    {"method": {"name": "part_selection", "width": 10**9, "stages": 99}}, {"method": {"name": "transfer", "x": 1}},
    {"method": {"name": "os.system"}}, {"neck": {"name": "isqrt_cov", "reduce": 10**9}},
    {"neck": {"name": "isqrt_cov", "reduce": 0}}, {"head": {"name": "arcface", "scale": 1e300}},
    {"head": {"name": "cosine", "scale": True}}, {"images": {"size": 10**9}}, {"images": {"size": 1023}},
    {"parts": ["a"] * 1000}, {"attributes": {"wing": ["a", "b"]}}, {"attributes": {"wing": ["a"] * 3}},
    {"labels": {"order": ["zinc"]}}, {"labels": {"order": ["rose", "amber", "jade", "plum"]}},
    {"plugins": {"method": {"name": "transfer", "package": "\x1b[2J", "version": "1"}}},
]  # fmt: skip


def places(values: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in a tree."""
    inside = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [here, *(place for key, value in inside for place in places(value, (*here, key)))]


def changed_json(description: dict[str, Any], rng: np.random.Generator) -> bytes:
    """model.json with something strange at one place."""
    if rng.random() < 0.12:
        return RAW[rng.integers(len(RAW))]
    values = copy.deepcopy(description)
    if rng.random() < 0.3:
        values["backbone"]["options"] = OPTIONS[rng.integers(len(OPTIONS))]
        return json.dumps(values).encode()
    if rng.random() < 0.3:
        return json.dumps(values | PIECES[rng.integers(len(PIECES))]).encode()
    *way, last = places(values)[1:][rng.integers(len(places(values)) - 1)]
    inside = values
    for key in way:
        inside = inside[key]
    match int(rng.integers(4)):
        case 0:
            del inside[last]
        case 1 if isinstance(inside[last], list):
            inside[last] = inside[last] * 3
        case 2 if isinstance(inside[last], list):
            inside[last] = inside[last][:-1]
        case _:
            inside[last] = STRANGE[rng.integers(len(STRANGE))]
    return json.dumps(values).encode()


def changed_arrays(arrays: Values, rng: np.random.Generator) -> bytes:
    """Arrays of which one has another shape, another type or other values."""
    arrays = dict(arrays)
    name = sorted(arrays)[rng.integers(len(arrays))]
    one = arrays[name]
    makes: list[Callable[[], Any]] = [
        lambda: one[:-1],
        lambda: np.concatenate([one, one]),
        lambda: one[..., None],
        lambda: one.astype(np.float16),
        lambda: one.astype(np.int64),
        lambda: one.astype(np.float64) * np.nan,
        lambda: one.astype(np.float64) * 0 + np.inf,
        lambda: np.full_like(one, -7),
        lambda: np.full_like(one, 120),
        lambda: np.zeros(0, one.dtype),
        lambda: one.astype(np.float64) * 1e300,
        lambda: one[::-1],
    ]
    with np.errstate(all="ignore"):
        arrays[name] = np.ascontiguousarray(makes[rng.integers(len(makes))]())
    if rng.random() < 0.15:
        del arrays[name]
    return safetensors.numpy.save(arrays)


def changed_header(data: bytes, rng: np.random.Generator) -> bytes:
    """A safetensors file whose header lies."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = sorted(key for key in header if key != "__metadata__")[0]
    match int(rng.integers(9)):
        case 0:
            return struct.pack("<Q", 2**63) + data[8:]
        case 1:
            return struct.pack("<Q", length + 10**6) + data[8:]
        case 2:
            header[name]["data_offsets"] = [0, 2**62]
        case 3:
            header[name]["data_offsets"] = [10, 2]
        case 4:
            header[name]["shape"] = [2**40, 2**40]
        case 5:
            header[name]["dtype"] = str(rng.choice(["BF16", "U8", "F8_E4M3", "I64", "C64", "nonsense"]))
        case 6:
            header[name]["shape"] = []
        case 7:
            header["../../etc/passwd"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        case _:
            body = body[: len(body) // 2]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def odd_file(path: Path, rng: np.random.Generator) -> None:
    """Something that is no file, or a very large one, in place of a file."""
    path.unlink()
    match int(rng.integers(5)):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(path)
        case 3:
            path.symlink_to("/dev/zero")
        case _:
            path = path.with_suffix(".json")
            with path.open("wb") as file:
                file.truncate(2**30 + 1)


def write_hostile(folder: Path, seed: int) -> None:
    """Change a bundle, with an index that is right, or without one."""
    rng = np.random.default_rng(seed)
    description, calibration = folder / "model.json", folder / "calibration.safetensors"
    match seed % 5:
        case 0 | 1:
            description.write_bytes(changed_json(json.loads(description.read_text()), rng))
        case 2:
            calibration.write_bytes(changed_arrays(safetensors.numpy.load_file(calibration), rng))
        case 3:
            path = (calibration, folder / "model.safetensors")[rng.integers(2)]
            path.write_bytes(changed_header(path.read_bytes(), rng))
        case _:
            odd_file(folder / FILES[rng.integers(len(FILES))], rng)
            return
    (folder / "index.json").unlink()
    if rng.random() < 0.5:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        (folder / "index.json").write_bytes(json_bytes(index_of(files)))


@pytest.mark.parametrize("seed", [*range(30), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(30, 250))])
def test_a_hostile_bundle(bundle: Path, picture: Path, tmp_path: Path, seed: int) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    write_hostile(folder, seed)
    outcome(folder, picture)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: next(iter(options)))
def test_options_of_a_backbone_in_a_bundle(
    bundle: Path, picture: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    description = json.loads((folder / "model.json").read_text())
    description["backbone"]["options"] = options
    (folder / "model.json").write_text(json.dumps(description))
    (folder / "index.json").unlink()
    assert outcome(folder, picture) or set(options) == {"drop_rate"}


@pytest.mark.parametrize("change", PIECES, ids=repr)
def test_sections_of_a_bundle(bundle: Path, picture: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    description = json.loads((folder / "model.json").read_text()) | change
    (folder / "model.json").write_text(json.dumps(description))
    (folder / "index.json").unlink()
    outcome(folder, picture)


# Answers that are not numbers -----------------------------------------------------------------------------------------


def test_answers_that_are_not_numbers(bundle: Path, picture: Path) -> None:
    predictor = Predictor.load(bundle)
    with torch.no_grad():
        next(predictor.model.backbone.parameters()).mul_(1e38).mul_(10)
    for ask in (predictor.predict, predictor.predict_proba, predictor.embed, predictor.outputs):
        with pytest.raises(RunError, match="answers with NaN or infinite values instead of numbers"):
            ask([picture])
