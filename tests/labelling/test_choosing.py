"""What to label next: centres first, then what is uncertain and differs, evenly if asked, and no burst twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fieldmark.data.bursts import Taken, bursts, taken
from fieldmark.labelling.choosing import FEW, choose, is_early, quotas, top_margin, typical, uncertain


def clusters(seed: int = 0, num: int = 6, each: int = 20) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.repeat(np.eye(num, 12), each, axis=0) + 0.05 * random.normal(size=(num * each, 12))


@given(st.integers(0, 500), st.integers(1, 12), st.integers(2, 6), st.booleans())
def test_what_is_chosen_is_chosen_once(seed: int, most: int, classes: int, balanced: bool) -> None:
    random = np.random.default_rng(seed)
    num, early = int(random.integers(1, 40)), bool(random.integers(2))
    labels = random.integers(0, classes, classes * (1 if early else FEW))
    chosen = choose(
        random.dirichlet(np.ones(classes), num),
        random.normal(size=(num, 5)),
        random.normal(size=(len(labels), 5)),
        labels,
        most,
        balanced=balanced,
    )
    assert len(chosen) == len(set(chosen.tolist())) == min(most, num)
    assert ((chosen >= 0) & (chosen < num)).all()


def test_each_cluster_is_asked_about_once() -> None:
    chosen = typical(clusters(), np.zeros((0, 12)), 6)
    assert sorted(chosen // 20) == list(range(6))


def test_what_is_labelled_need_not_be_asked_again() -> None:
    vectors = clusters()
    labelled = vectors[[0, 20, 40]]
    rest = np.setdiff1d(np.arange(120), [0, 20, 40])
    chosen = rest[typical(vectors[rest], labelled, 3)]
    assert not {0, 1, 2} & set((chosen // 20).tolist())


def test_a_centre_is_nearer_than_its_cluster() -> None:
    vectors = clusters(num=1, each=50)
    (one,) = typical(vectors, np.zeros((0, 12)), 1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert one == np.linalg.norm(unit - unit.mean(axis=0), axis=1).argmin()


def test_the_uncertain_are_asked_and_differ() -> None:
    vectors, margins = clusters(), np.ones(120)
    doubtful = np.concatenate([np.arange(0, 20), [25, 45, 65]])
    margins[doubtful] = 0.01
    chosen = uncertain(vectors, margins, 4)
    assert set(chosen.tolist()) <= set(doubtful.tolist())
    assert sorted(chosen // 20) == [0, 1, 2, 3]


def test_copies_of_one_picture_do_not_stop_it() -> None:
    assert len(set(uncertain(np.ones((30, 4)), np.linspace(0, 1, 30), 3).tolist())) == 3


def test_margins() -> None:
    assert np.allclose(top_margin(np.array([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4]])), [0.2, 0.0])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6), st.integers(0, 30))
def test_quotas_make_labels_even(pairs: list[tuple[int, int]], most: int) -> None:
    counts, available = np.array(pairs).T
    shares = quotas(counts, available, most)
    assert shares.sum() == min(most, available.sum())
    assert (shares <= available).all()
    got = np.flatnonzero(shares > 0)
    open_ = np.flatnonzero(shares < available)
    if len(got) and len(open_):  # nobody got one while another, who still could, had two fewer
        assert (counts + shares)[got].max() <= (counts + shares)[open_].min() + 1


def test_balance_prefers_classes_with_few_labels() -> None:
    probabilities = np.full((40, 2), 0.4)
    probabilities[:20, 0] = probabilities[20:, 1] = 0.6
    labels = np.array([0] * 9 + [1])
    chosen = choose(
        probabilities, np.random.default_rng(0).normal(size=(40, 3)), np.zeros((10, 3)), labels, 8, balanced=True
    )
    assert (chosen >= 20).all()


@pytest.mark.parametrize(("labelled", "early"), [(0, True), (FEW * 5 - 1, True), (FEW * 5, False)])
def test_few(labelled: int, early: bool) -> None:
    assert is_early(labelled, 5) is early


# ---- bursts


def test_frames_of_a_burst_share_a_name() -> None:
    files = [Path(f"/a/{i}.jpg") for i in range(5)] + [Path("/b/9.jpg"), Path("/a/6.jpg")]
    times = [Taken(s, "x") for s in (10.0, 11.9, 13.5, 30.0, 30.5)] + [Taken(10.5, "x"), Taken(10.6, "y")]
    assert bursts(files, times) == ["/a/0.jpg"] * 3 + ["/a/3.jpg"] * 2 + ["", ""]
    assert bursts(files, [None] * 7) == [""] * 7


def test_exif_is_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Spotter"
    exif.get_ifd(0x8769).update({0x9003: "2026:05:01 06:30:00", 0x9291: "25"})
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    found = taken(tmp_path / "a.jpg")
    assert found is not None
    assert found.camera == "None Spotter"
    assert found.seconds % 60 == 0.25
    assert taken(tmp_path / "b.jpg") is taken(tmp_path / "c.jpg") is taken(tmp_path / "none.jpg") is None
