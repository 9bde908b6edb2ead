"""A JPEG cut short and closed with an end marker is told from one with a grey band of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.commands.audit import audit
from fieldmark.data.auditing.cut_short import is_cut_short
from fieldmark.data.decode import decode
from support.drawn import encode, picture


def photograph(seed: int = 0, width: int = 320, height: int = 240) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    return (picture(seed, width, height) + noise).clip(0, 255).astype(np.uint8)


def cut(data: bytes, share: float) -> bytes:
    """The first share of the file, closed."""
    return data[: round(share * len(data))] + b"\xff\xd9"


KINDS = {
    "4:2:0": {},
    "4:4:4": {"subsampling": 0},
    "optimised": {"optimize": True},
    "restarts": {"restart_marker_rows": 2},
    "coarse": {"quality": 20},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_file_that_was_cut_short(options: dict[str, int], seed: int) -> None:
    data = encode(photograph(seed), "JPEG", **options)
    assert not is_cut_short(data)
    for share in (0.4, 0.6, 0.8):
        assert (decode(cut(data, share)).pixels[-8:] == 128).all()  # no decoder complains
        assert is_cut_short(cut(data, share))


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("grey", [128, 127, 114, 255])
def test_a_band_that_belongs_to_the_picture(options: dict[str, int], grey: int) -> None:
    padded = photograph()
    padded[150:] = grey
    assert not is_cut_short(encode(padded, "JPEG", **options))
    assert not is_cut_short(encode(np.full_like(padded, grey), "JPEG", **options))
    assert not is_cut_short(encode(Image.fromarray(padded).convert("L"), "JPEG", **options))


def test_other_files_are_left_alone() -> None:
    for data in (b"", b"\xff\xd8\xff", encode(photograph(), "PNG"), encode(photograph(), "JPEG", progressive=True)):
        assert not is_cut_short(data)


def test_the_audit_finds_it_whichever_way_up(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for seed in range(4):
            exif = Image.Exif()
            exif[0x0112] = (1, 3, 6, 8)[seed]
            data = encode(photograph(10 * (label == "b") + seed), "JPEG", exif=exif.tobytes())
            (tmp_path / label / f"{seed}.jpg").write_bytes(cut(data, 0.6) if label == "b" else data)
    found = next(finding for finding in audit(tmp_path).findings if finding.kind == "cut-short")
    assert found.title == "4 images cut short"
    assert found.severity == "notice"
    assert [case.rows for case in found.cases] == [(4,), (5,), (6,), (7,)]
