"""Train, validation and test splits, cut so that what belongs together stays together.

The atom is the *unit*: all samples that share a group or a cluster of near-duplicates, directly or through others.
Units are dealt out largest first, each to the split where it lessens the squared distance from the wanted counts
per class most (as scikit-learn's StratifiedGroupKFold does with variances), with two additions: every class is
present in train, and a class of three or more units in every split. The second can be out of reach where units span
several classes; the first is kept even then.

Shapes: N samples, U units, K classes, P splits.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import SPLITS, Catalog, Split
from fieldmark.data.names import normal

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "SPLIT_NAMES",
    "VALIDATION_SHARE",
    "DuplicateConflicts",
    "clusters_of",
    "copies",
    "cut_validation",
    "duplicate_conflicts",
    "folds",
    "following",
    "split",
    "split_called",
    "units",
]

VALIDATION_SHARE = 0.15
"""The share held out if the data has no validation split."""

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""The names of a split in a folder or a table, in upper or lower case."""


def split_called(name: str) -> Split | None:
    """The split that a folder of this name holds; None if it is no split's name."""
    return SPLIT_NAMES.get(normal(name).lower())


_TO_TEST = ((), (0,), (0, 1), (0, 0, 1))
"""By how many units a class has (the last entry is for more): the splits that it gets into, train being 0. Of three,
two stay in train, so that one of them can be for validation."""
_TO_VALIDATION = ((), (0,), (0,), (0, 1))
_TO_VALIDATION_TOO = ((), (0,), (0, 1))
"""Of what a cut for testing has left."""


def split(
    catalog: Catalog,
    *,
    clusters: NDArray[np.int64] | None = None,
    seed: int,
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15),
) -> Catalog:
    """Cut unsplit data into train, val and test, by class, keeping each group and each cluster together.

    `clusters` (N,) are the component ids of near-duplicates, `fractions` those of train, val and test. A class of
    three or more units is in every split; of two, in train and test; of one, in train alone: a DataWarning counts
    such classes. The result depends on the seed, the paths, labels, groups and clusters, not on the order of rows, and
    the test split not on how the rest is divided: models of different protocols can be compared on it.
    """
    assert (catalog.splits == "").all(), "the data is already split"
    assert abs(sum(fractions) - 1) < 1e-6
    train, val, test = fractions
    rest = train + val
    parted, num_units = _cut(catalog, np.arange(len(catalog)), clusters, seed, {"train": rest, "test": test}, _TO_TEST)
    if val:
        shares: dict[Split, float] = {"train": train / rest, "val": val / rest}
        parted, _ = _cut(parted, parted.rows("train"), clusters, seed, shares, _TO_VALIDATION_TOO)
    _warn_of_small_classes(catalog, num_units, ["train", "test", "val"] if val else ["train", "test"])
    return parted


def cut_validation(
    catalog: Catalog, *, clusters: NDArray[np.int64] | None = None, seed: int, fraction: float = VALIDATION_SHARE
) -> Catalog:
    """Cut a val split from train, by the rules of `split`; test stays as it is.

    A class gives to val only if it has three or more units in train. Raises DataError if there is no train split.
    """
    assert not (catalog.splits == "val").any(), "the data has a validation split"
    shares: dict[Split, float] = {"train": 1 - fraction, "val": fraction}
    cut, num_units = _cut(catalog, _train_rows(catalog), clusters, seed, shares, _TO_VALIDATION)
    _warn_of_small_classes(catalog, num_units, ["train", "val"])
    return cut


def following(catalog: Catalog, known: NDArray[np.bool_], *, clusters: NDArray[np.int64] | None = None) -> Catalog:
    """What belongs together with `known` samples (N,), by group or as near-duplicates, goes into the split of these.

    Of several splits it is test, or else val, so that nothing that judges is learnt from. `known` samples stay.
    """
    unit = units(catalog, clusters)
    places = np.array(["", *SPLITS])
    rank = np.argsort(places)[np.searchsorted(np.sort(places), catalog.splits)]
    strictest = np.zeros(unit.max(initial=-1) + 1, np.int64)
    np.maximum.at(strictest, unit[known], rank[known])
    moved = ~known & (strictest[unit] > 0)
    return replace(catalog, splits=np.where(moved, places[strictest[unit]], catalog.splits))


def folds(catalog: Catalog, *, k: int, clusters: NDArray[np.int64] | None = None, seed: int) -> NDArray[np.int64]:
    """(N,) the fold, 0 … k - 1, of each train row, -1 for other rows; by class, keeping groups and clusters together.

    A class of two or more units is in at least two folds, so that every fold's model has seen it (as far as units of
    several classes allow). Raises DataError where train has fewer than `k` units.
    """
    assert k >= 2
    rows = _train_rows(catalog)
    pool = catalog.select(rows)
    unit = units(pool, None if clusters is None else clusters[rows])
    counts = _counts(unit, pool)
    if counts.shape[0] < k:
        raise DataError(
            f"{k} folds need at least {k} groups of images in train, but {catalog.name} has only {counts.shape[0]}",
            "Use fewer folds, or smaller groups.",
        )
    dealt = _deal(counts, np.full(k, 1 / k), [tuple(range(k))] * len(catalog.classes), np.random.default_rng(seed))
    fold = np.full(len(catalog), -1, dtype=np.int64)
    fold[rows] = dealt[unit]
    return fold


@dataclass(frozen=True)
class DuplicateConflicts:
    """Clusters of near-duplicates that contradict the splits or the labels, each as its rows in the catalogue."""

    across_splits: tuple[tuple[int, ...], ...]
    """The same photograph in two splits: what is learnt from one is tested on the other."""
    across_labels: tuple[tuple[int, ...], ...]
    """The same photograph under two labels: one of them is wrong."""

    def __bool__(self) -> bool:
        return bool(self.across_splits or self.across_labels)

    def describe(self, catalog: Catalog) -> str:
        """One line that counts the conflicts, with an example of each; "" where there are none."""
        splits, labels = catalog.splits.tolist(), [catalog.classes[label] for label in catalog.labels]
        phrases = []
        for clusters, kind, values in (
            (self.across_splits, "in two splits", splits),
            (self.across_labels, "under two labels", labels),
        ):
            if clusters:
                first, *others = (row for row in clusters[0] if values[row])
                other = next(row for row in others if values[row] != values[first])
                example = f"{catalog.paths[first]} ({values[first]}) and {catalog.paths[other]} ({values[other]})"
                phrases.append(f"{counted(len(clusters), 'photograph')} {kind}, such as {example}")
        return "; ".join(phrases)


def duplicate_conflicts(catalog: Catalog, clusters: NDArray[np.int64]) -> DuplicateConflicts:
    """The clusters (N,) whose members lie in different splits, or carry different labels."""
    splits = np.searchsorted(np.sort(np.array(SPLITS)), catalog.splits)
    splits[catalog.splits == ""] = -1
    return DuplicateConflicts(_disagreeing(clusters, splits), _disagreeing(clusters, catalog.labels))


def _disagreeing(clusters: NDArray[np.int64], values: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """The rows of each cluster with more than one of the values ≥ 0."""
    known = np.flatnonzero((values >= 0) & (np.bincount(clusters)[clusters] > 1))
    pairs = np.unique(np.stack([clusters[known], values[known]], axis=1), axis=0)
    ids, num_values = np.unique(pairs[:, 0], return_counts=True)
    mixed = ids[num_values > 1]
    rows = np.flatnonzero(np.isin(clusters, mixed))
    rows = rows[np.argsort(clusters[rows], kind="stable")]
    starts = np.searchsorted(clusters[rows], mixed)
    return tuple(tuple(int(row) for row in some) for some in np.split(rows, starts[1:])) if len(mixed) else ()


def _train_rows(catalog: Catalog) -> NDArray[np.int64]:
    rows = catalog.rows("train")
    if not len(rows):
        raise DataError(f"{catalog.name} has no training images", "Give it a train split, or leave the data unsplit.")
    return rows


def _cut(
    catalog: Catalog,
    rows: NDArray[np.int64],
    clusters: NDArray[np.int64] | None,
    seed: int,
    fractions: dict[Split, float],
    places: Sequence[tuple[int, ...]],
) -> tuple[Catalog, NDArray[np.int64]]:
    """The catalogue with `rows` dealt out to two splits, and how many units each class has in them (K,).

    `places`: by that number, the splits that a class gets into.
    """
    names = [name for name, share in fractions.items() if share > 0]
    pool = catalog.select(rows)
    unit = units(pool, None if clusters is None else clusters[rows])
    counts = _counts(unit, pool)
    num_units = np.bincount(counts.indices, minlength=len(catalog.classes))  # (K,)
    wanted = [tuple(at for at in places[min(n, len(places) - 1)] if at < len(names)) for n in num_units.tolist()]
    dealt = _deal(counts, np.array([fractions[name] for name in names]), wanted, np.random.default_rng(seed))
    _fill_train(dealt, counts)
    splits = catalog.splits.astype("<U5")
    splits[rows] = np.array(names)[dealt[unit]]
    return replace(catalog, splits=splits), num_units


def units(catalog: Catalog, clusters: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """(N,) what must stay together shares a number: the connected components of groups and clusters (N,).

    Units are numbered in the order of their first paths, whatever the order of rows.
    """
    from scipy.sparse import coo_array  # slow to import, and no answer needs it
    from scipy.sparse.csgraph import connected_components

    num = len(catalog)
    grouped = np.flatnonzero(catalog.groups != "")
    samples, knots = [grouped], [num + _numbered(catalog.groups[grouped])]
    if clusters is not None:
        samples.append(np.arange(num))
        knots.append(2 * num + _numbered(clusters))
    ends = np.concatenate(samples), np.concatenate(knots)
    graph = coo_array((np.ones(len(ends[0]), bool), ends), shape=(3 * num, 3 * num))
    _, component = connected_components(graph, directed=False)
    by_path = sorted(range(num), key=catalog.paths.__getitem__)
    _, first, inverse = np.unique(component[by_path], return_index=True, return_inverse=True)
    numbers = np.empty(num, dtype=np.int64)
    numbers[by_path] = _numbered(first)[inverse]
    return numbers


def copies(paths: Sequence[str], clusters: NDArray[np.int64]) -> list[str]:
    """(N) for each path the first one of its cluster (N,), "" for that one itself. `clusters_of` undoes it."""
    _, first, cluster = np.unique(clusters, return_index=True, return_inverse=True)
    return ["" if at == row else paths[at] for row, at in enumerate(first[cluster].tolist())]


def clusters_of(paths: Sequence[str], copy_of: Mapping[str, str]) -> NDArray[np.int64]:
    """A number for each path (N,): equal for those that are copies of one path, which may be gone, and for that one."""
    firsts = [copy_of.get(path) or path for path in paths]
    numbers = {path: number for number, path in enumerate(firsts)}
    return np.array([numbers[path] for path in firsts], np.int64)


def _numbered(values: NDArray[Any]) -> NDArray[np.int64]:
    """Each value's rank among the different ones."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _counts(unit: NDArray[np.int64], catalog: Catalog) -> csr_array:
    """The samples per unit and class (U, K)."""
    from scipy.sparse import coo_array

    shape = (int(unit.max()) + 1, len(catalog.classes))
    entries = coo_array((np.ones(len(unit), np.int64), (unit, catalog.labels)), shape=shape)
    return entries.tocsr()


def _deal(
    counts: csr_array, fractions: NDArray[np.float64], wanted: Sequence[tuple[int, ...]], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The split of each unit (U,), from the samples per unit and class (U, K) and the splits' fractions (P,).

    `wanted[k]` are the splits that class k may be in; as long as its units suffice, it gets into each of them, with two
    units into one that is named twice.
    Plain lists, because a unit has few classes and there are few splits: 500,000 units take seconds.
    """
    sizes = counts.sum(axis=1)
    # Largest first; equals class by class, so that what does not divide evenly goes where the whole lacks most.
    order = np.lexsort((rng.permutation(len(sizes)), counts.indices[counts.indptr[:-1]], -sizes))
    choices = range(len(fractions))
    lacking = np.outer(counts.sum(axis=0), fractions).tolist()  # (K, P) samples still wanted
    weights = (1 / fractions).tolist()
    behind = [0.0] * len(choices)  # what a split has, all classes together, relative to its fraction, negated
    empty = [list(allowed) for allowed in wanted]
    left = np.bincount(counts.indices, minlength=counts.shape[1]).tolist()  # (K,) units not dealt out yet
    starts, classes, samples = counts.indptr.tolist(), counts.indices.tolist(), counts.data.tolist()
    dealt = np.zeros(len(sizes), dtype=np.int64)
    for unit in order.tolist():
        contents = range(starts[unit], starts[unit + 1])
        votes, gain = [0] * len(choices), [0.0] * len(choices)
        for entry in contents:
            label = classes[entry]
            for choice in set(empty[label] if left[label] <= len(empty[label]) else wanted[label]):
                votes[choice] += 1
            for choice in choices:
                gain[choice] += samples[entry] * lacking[label][choice]
        best = max(zip(votes, gain, behind, choices, strict=True))[3]
        dealt[unit] = best
        for entry in contents:
            label = classes[entry]
            left[label] -= 1
            lacking[label][best] -= samples[entry]
            behind[best] -= samples[entry] * weights[best]
            if best in empty[label]:
                empty[label].remove(best)
    return dealt


def _fill_train(dealt: NDArray[np.int64], counts: csr_array) -> None:
    """Move a class's smallest unit to train (split 0) where units of several classes left it with none there."""
    sizes = counts.sum(axis=1)
    by_class = counts.tocsc()
    for label in np.setdiff1d(counts.indices, counts[dealt == 0].indices):
        units = by_class.indices[by_class.indptr[label] : by_class.indptr[label + 1]]
        if not (dealt[units] == 0).any():  # a unit that was moved for another class may be of this one, too
            dealt[units[np.argmin(sizes[units])]] = 0


def _warn_of_small_classes(catalog: Catalog, num_units: NDArray[np.int64], splits: Sequence[Split]) -> None:
    """Count the classes that are too small to be in each of the splits, which are filled in this order."""
    for number, things in ((1, "one independent image or group"), (2, "two independent images or groups")):
        names = [catalog.classes[label] for label in np.flatnonzero(num_units == number)]
        present = [name for name in splits[:number] if name != "val"]
        if names and len(present) < len(splits):
            warnings.warn(
                f"{len(names):,} of {len(catalog.classes):,} classes have only {things} and are only in "
                f"{' and '.join(present)}: {first_few(names)}",
                DataWarning,
                stacklevel=4,
            )
