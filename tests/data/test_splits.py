from __future__ import annotations

import warnings
from collections import defaultdict
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.splits import (
    clusters_of,
    copies,
    cut_validation,
    duplicate_conflicts,
    folds,
    following,
    split,
    units,
)


def table(labels: list[int], groups: list[str] | None = None, splits: list[str] | None = None) -> Catalog:
    num_classes = max(labels) + 1
    return Catalog(
        name="birds",
        root=Path("/birds"),
        paths=tuple(f"{label}/{row:05}.jpg" for row, label in enumerate(labels)),
        labels=np.array(labels, dtype=np.int64),
        classes=tuple(f"class{label}" for label in range(num_classes)),
        splits=np.array(splits or [""] * len(labels), dtype="<U5"),
        groups=np.array(groups or [""] * len(labels), dtype=np.str_),
    )


def quietly(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return function(*args, **options)


def by_union_find(catalog: Catalog, clusters: NDArray[np.int64]) -> list[int]:
    """The component of each row, found the slow way."""
    parent = list(range(len(catalog)))

    def find(row: int) -> int:
        while parent[row] != row:
            row = parent[row]
        return row

    for one in range(len(catalog)):
        for two in range(one):
            alike = catalog.groups[one] != "" and catalog.groups[one] == catalog.groups[two]
            if alike or clusters[one] == clusters[two]:
                parent[find(one)] = find(two)
    return [find(row) for row in range(len(catalog))]


samples = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["", "", "a", "b", "c", "d", "e"]), st.integers(0, 25)),
    min_size=1,
    max_size=60,
)


def drawn(rows: list[tuple[int, str, int]]) -> tuple[Catalog, NDArray[np.int64]]:
    """Samples whose groups and clusters may span classes; class k is there for every k."""
    rows = rows + [(label, "", 100 + label) for label in range(5)]
    catalog = table([label for label, _, _ in rows], [group for _, group, _ in rows])
    return catalog, np.array([cluster for _, _, cluster in rows], dtype=np.int64)


@given(rows=samples)
def test_units_are_the_components_of_groups_and_clusters(rows: list[tuple[int, str, int]]) -> None:
    catalog, clusters = drawn(rows)
    expected = by_union_find(catalog, clusters)
    pairs = set(zip(units(catalog, clusters).tolist(), expected, strict=True))
    assert len(pairs) == len({unit for unit, _ in pairs}) == len({component for _, component in pairs})


@given(st.lists(st.integers(0, 6), max_size=12))
def test_copies_tell_the_clusters(drawn: list[int]) -> None:
    paths = [f"{row}.jpg" for row in range(len(drawn))]
    found = copies(paths, np.array(drawn, np.int64))
    assert found == [
        "" if drawn.index(cluster) == row else paths[drawn.index(cluster)] for row, cluster in enumerate(drawn)
    ]
    again = clusters_of(paths, dict(zip(paths, found, strict=True)))
    assert [[one == other for other in drawn] for one in drawn] == (again[:, None] == again).tolist()


def test_copies_of_a_path_that_is_gone_stay_together() -> None:
    found = clusters_of(["b", "c", "d"], {"b": "a", "c": "", "d": "a", "e": "c"})
    assert found[0] == found[2] != found[1]


@given(rows=samples, seed=st.integers(0, 3))
def test_no_unit_is_parted_and_every_class_is_in_train(rows: list[tuple[int, str, int]], seed: int) -> None:
    catalog, clusters = drawn(rows)
    result = quietly(split, catalog, clusters=clusters, seed=seed)
    assert result.is_split
    part_of = defaultdict(set)
    for component, name in zip(by_union_find(catalog, clusters), result.splits.tolist(), strict=True):
        part_of[component].add(name)
    assert all(len(parts) == 1 for parts in part_of.values())
    assert set(result.labels[result.rows("train")]) == set(range(5))
    assert result.paths == catalog.paths


@given(rows=samples, seed=st.integers(0, 3), order=st.randoms())
def test_the_order_of_rows_changes_nothing(rows: list[tuple[int, str, int]], seed: int, order: Random) -> None:
    catalog, clusters = drawn(rows)
    shuffled = list(range(len(catalog)))
    order.shuffle(shuffled)
    index = np.array(shuffled)
    result = quietly(split, catalog, clusters=clusters, seed=seed)
    again = quietly(split, catalog.select(index), clusters=1000 - clusters[index], seed=seed)
    assert again.splits.tolist() == result.splits[index].tolist()


@given(sizes=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=9), min_size=1, max_size=5))
def test_a_class_of_three_units_is_in_every_split(sizes: list[list[int]]) -> None:
    units_of = [
        (label, f"{label}-{unit}", size) for label, all_of in enumerate(sizes) for unit, size in enumerate(all_of)
    ]
    labels = [label for label, _, size in units_of for _ in range(size)]
    catalog = table(labels, [group for _, group, size in units_of for _ in range(size)])
    result = quietly(split, catalog, seed=0)
    expected = {1: {"train"}, 2: {"train", "test"}}
    for label, all_of in enumerate(sizes):
        assert set(result.splits[result.labels == label]) == expected.get(len(all_of), {"train", "val", "test"})


@given(counts=st.lists(st.integers(4, 60), min_size=1, max_size=6), seed=st.integers(0, 3))
def test_classes_of_single_images_are_cut_in_proportion(counts: list[int], seed: int) -> None:
    catalog = table([label for label, count in enumerate(counts) for _ in range(count)])
    result = split(catalog, seed=seed)
    for label, count in enumerate(counts):
        for name, fraction in (("train", 0.70), ("val", 0.15), ("test", 0.15)):
            assert abs((result.splits[result.labels == label] == name).sum() - fraction * count) <= 1.0


def test_rounding_does_not_add_up_over_classes() -> None:
    result = split(table([row // 10 for row in range(2000)]), seed=0)  # 10 per class: 7 + 1.5 + 1.5
    assert [len(result.rows(name)) for name in ("train", "val", "test")] == [1400, 300, 300]


def test_rounding_does_not_add_up_when_validation_is_cut() -> None:
    result = cut_validation(table([row // 30 for row in range(1500)], splits=["train"] * 1500), seed=0)  # 25.5 + 4.5
    assert [len(result.rows(name)) for name in ("train", "val")] == [1275, 225]


def test_groups_of_unequal_size_come_near_the_fractions() -> None:
    sizes = np.random.default_rng(0).geometric(0.05, 400)
    groups = np.repeat(np.arange(400), sizes)
    result = split(table((groups % 5).tolist(), groups.astype(str).tolist()), seed=0)
    for label in range(5):
        shares = [np.mean(result.splits[result.labels == label] == name) for name in ("train", "val", "test")]
        assert shares == pytest.approx([0.70, 0.15, 0.15], abs=0.01)


def test_places_that_hold_every_class_are_dealt_out_whole() -> None:
    rows = [(label, f"place{place}") for place in range(20) for label in range(10) for _ in range(3)]
    result = split(table([label for label, _ in rows], [place for _, place in rows]), seed=0)
    assert [len(set(result.groups[result.rows(name)])) for name in ("train", "val", "test")] == [14, 3, 3]


def test_seeds_differ() -> None:
    catalog = table([row % 3 for row in range(90)])
    assert (split(catalog, seed=0).splits != split(catalog, seed=1).splits).any()
    assert (split(catalog, seed=0).splits == split(catalog, seed=0).splits).all()


def test_a_validation_share_of_nothing_leaves_train_and_test() -> None:
    result = split(table([row % 2 for row in range(40)]), seed=0, fractions=(0.85, 0.0, 0.15))
    assert {name: len(result.rows(name)) for name in ("train", "val", "test")} == {"train": 34, "val": 0, "test": 6}


@given(rows=samples, seed=st.integers(0, 2))
def test_the_test_part_is_the_same_whatever_becomes_of_the_rest(rows: list[tuple[int, str, int]], seed: int) -> None:
    catalog = table([label for label, _, _ in rows], [f"burst{group}" if group else "" for _, group, _ in rows])
    whole = quietly(split, catalog, seed=seed, fractions=(0.85, 0.0, 0.15))
    assert (quietly(split, catalog, seed=seed).rows("test") == whole.rows("test")).all()


def test_small_classes_are_counted() -> None:
    catalog = table([0] * 10 + [1] + [2] + [3, 3])
    with pytest.warns(DataWarning) as caught:
        split(catalog, seed=0)
    assert [str(warning.message) for warning in caught] == [
        "2 of 4 classes have only one independent image or group and are only in train: class1, class2",
        "1 of 4 classes have only two independent images or groups and are only in train and test: class3",
    ]


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 3))
def test_validation_is_cut_from_train_alone(counts: list[int], seed: int) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count + 2)]
    splits = [name for count in counts for name in ["train"] * count + ["test"] * 2]
    result = quietly(cut_validation, table(labels, splits=splits), seed=seed)
    assert (result.splits == "test").tolist() == [name == "test" for name in splits]
    for label, count in enumerate(counts):
        num_val = int((result.splits[result.labels == label] == "val").sum())
        assert num_val == 0 if count < 3 else 1 <= num_val <= max(1, 0.15 * count + 1)


def test_validation_never_parts_a_group() -> None:
    groups = [f"burst{row // 4}" for row in range(120)]
    result = cut_validation(table([row // 40 for row in range(120)], groups, ["train"] * 120), seed=0, fraction=0.2)
    assert not set(result.groups[result.rows("train")]) & set(result.groups[result.rows("val")])
    assert len(result.rows("val")) == 24


def test_validation_needs_training_images() -> None:
    with pytest.raises(
        DataError, match=r"birds has no training images. Give it a train split, or leave the data unsplit."
    ):
        cut_validation(table([0, 1], splits=["test", "test"]), seed=0)


@given(rows=samples, k=st.integers(2, 5), seed=st.integers(0, 2))
@settings(max_examples=60)
def test_folds_never_part_a_unit(rows: list[tuple[int, str, int]], k: int, seed: int) -> None:
    catalog, clusters = drawn(rows)
    splits = np.array(["train", "train", "test"] * len(catalog))[: len(catalog)]
    catalog = Catalog(**{**vars(catalog), "splits": splits})
    train = catalog.rows("train")
    component = np.array(by_union_find(catalog.select(train), clusters[train]))
    if len(set(component)) < k:
        with pytest.raises(DataError, match=f"{k} folds need at least {k} groups"):
            folds(catalog, k=k, clusters=clusters, seed=seed)
        return
    fold = folds(catalog, k=k, clusters=clusters, seed=seed)
    assert (fold[catalog.splits == "test"] == -1).all()
    assert all(len(set(fold[train][component == unit])) == 1 for unit in set(component))
    assert set(fold[train]) <= set(range(k))


@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=6), k=st.integers(2, 5))
def test_folds_are_stratified(counts: list[int], k: int) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    if len(labels) < k:
        return
    fold = folds(table(labels, splits=["train"] * len(labels)), k=k, seed=0)
    total = np.bincount(fold, minlength=k)
    assert total.max() - total.min() <= 1
    for label, count in enumerate(counts):
        sizes = np.bincount(fold[np.array(labels) == label], minlength=k)
        assert sizes.max() - sizes.min() <= 1
        assert sizes.sum() == count


def test_conflicts_are_found_and_counted() -> None:
    catalog = table([0, 0, 1, 1, 2, 2, 0], splits=["train", "test", "train", "train", "test", "", "train"])
    conflicts = duplicate_conflicts(catalog, np.array([7, 7, 3, 3, 5, 5, 3]))
    assert conflicts.across_splits == ((0, 1),)
    assert conflicts.across_labels == ((2, 3, 6),)
    assert conflicts.describe(catalog) == (
        "1 photograph in two splits, such as 0/00000.jpg (train) and 0/00001.jpg (test); "
        "1 photograph under two labels, such as 1/00002.jpg (class1) and 0/00006.jpg (class0)"
    )


def test_no_conflict_is_no_conflict() -> None:
    catalog = table([0, 1, 1], splits=["train", "test", "test"])
    conflicts = duplicate_conflicts(catalog, np.array([0, 1, 1]))
    assert not conflicts
    assert conflicts.describe(catalog) == ""


@given(rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["train", "val", "test", ""]), st.integers(0, 9))))
def test_conflicts_agree_with_a_plain_count(rows: list[tuple[int, str, int]]) -> None:
    rows = [*rows, (3, "train", 99)]
    catalog = table([label for label, _, _ in rows], splits=[name for _, name, _ in rows])
    members = defaultdict(list)
    for row, (_, _, cluster) in enumerate(rows):
        members[cluster].append(row)
    found = duplicate_conflicts(catalog, np.array([cluster for _, _, cluster in rows]))
    clusters = [tuple(members[cluster]) for cluster in sorted(members)]
    assert found.across_splits == tuple(c for c in clusters if len({rows[row][1] for row in c} - {""}) > 1)
    assert found.across_labels == tuple(c for c in clusters if len({rows[row][0] for row in c}) > 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from(["", *SPLITS])), min_size=1, max_size=20))
def test_what_belongs_to_known_samples_follows_them(rows: list[tuple[int, bool, str]]) -> None:
    """By near-duplicates, into what judges rather than into what is learnt from; known samples stay where they are."""
    clusters, known = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    splits = np.array([row[2] for row in rows])
    after = following(table([0] * len(rows), splits=splits.tolist()), known, clusters=clusters).splits
    for at, cluster in enumerate(clusters):
        given = {split for split in splits[known & (clusters == cluster)].tolist() if split}
        wanted = next((split for split in ("test", "val", "train") if split in given), splits[at])
        assert after[at] == (splits[at] if known[at] else wanted)
