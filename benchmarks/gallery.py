"""How a large gallery searches: recall, milliseconds and memory of its index, beside looking at everything and faiss.

    python benchmarks/gallery.py                                # 200,000 × 1,280, clusters of random directions
    python benchmarks/gallery.py --vectors embeddings.npz       # perturbed copies of real embeddings

All libraries use one thread, in one run, on the same queries. A query is a perturbed copy of a vector that is in the
gallery, the truth is an exact search in float32. Prints JSON and a row of a Markdown table.
"""

# ruff: noqa: E402  (threads are counted before NumPy is imported)
from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.outputs import unit
from fieldmark.gallery import folder
from fieldmark.gallery.folder import FolderStore
from fieldmark.gallery.maker import describe
from fieldmark.gallery.store import Entry, Maker, Wanted

MOST = 10
BATCH = 32
MAKER: Maker = {"network": "a benchmark", "architecture": "0" * 64, "weights": "0" * 64, "view": "0" * 64}
Vectors = NDArray[np.float32]


def perturbed(sources: Vectors, number: int, noise: float, rng: np.random.Generator) -> Vectors:
    """Random rows of `sources`, moved by `noise` times a random direction of unit length."""
    moved = np.empty((number, sources.shape[1]), np.float32)
    for at in range(0, number, 10_000):
        chosen = sources[rng.integers(0, len(sources), min(10_000, number - at))]
        moved[at : at + len(chosen)] = unit(chosen + noise * unit(rng.standard_normal(chosen.shape, np.float32)))
    return moved


def sources_of(path: Path | None, dimension: int, rng: np.random.Generator) -> Vectors:
    """The embeddings in a file, or 2,000 random directions."""
    if path is None:
        return unit(rng.standard_normal((2000, dimension), np.float32))
    with np.load(path) as arrays:
        return unit(max((arrays[name] for name in arrays.files), key=lambda one: one.size if one.ndim == 2 else 0))


def entry(number: int) -> Entry:
    return Entry(f"/photographs/{number}.jpg", hashlib.sha256(str(number).encode()).hexdigest())


def timed(ask: Any, queries: Vectors) -> tuple[float, list[list[int]]]:
    """Median milliseconds of a query, and the answers."""
    taken, answers = [], []
    for query in queries:
        start = time.perf_counter()
        answers.append(ask(query))
        taken.append(1000 * (time.perf_counter() - start))
    return float(np.median(taken)), answers


def recall(answers: list[list[int]], truth: list[list[int]]) -> float:
    return float(np.mean([len({*a} & {*t}) / len(t) for a, t in zip(answers, truth, strict=True)]))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def numbers(hits: Any) -> list[int]:
    return [int(hit.entry.path[13:-4]) for hit in hits]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    sources = sources_of(options.vectors, options.dimension, rng)
    vectors = perturbed(sources, options.number, options.noise, rng)
    queries = perturbed(vectors, options.queries, options.noise, rng)
    found: dict[str, Any] = {"number": len(vectors), "dimension": vectors.shape[1], "noise": options.noise}
    place = Path(tempfile.mkdtemp(dir=options.place)) / "gallery"
    folder.LARGE = min(folder.LARGE, len(vectors) // 2)
    try:
        found["numpy_ms"], truth = timed(
            lambda query: np.argpartition(-(vectors @ query), MOST)[:MOST].tolist(), queries
        )
        found |= measure_faiss(vectors, queries, truth) if options.faiss else {}
        store = FolderStore(place, writing=True, new=describe(MAKER, vectors.shape[1]))
        start = time.perf_counter()
        for at in range(0, len(vectors), 1000):
            store.add([entry(k) for k in range(at, min(at + 1000, len(vectors)))], vectors[at : at + 1000])
        found["add_1000_ms"] = 1e6 * (time.perf_counter() - start) / len(vectors)
        exact = store._shelf
        found["exact_ms"], answers = timed(lambda query: numbers(exact.search(query, MOST, Wanted())), queries)
        found["exact_recall"] = recall(answers, truth)
        start, cpu = time.perf_counter(), time.process_time()
        assert store.build_graph(), "usearch is not installed"
        found |= {"build_s": time.perf_counter() - start, "build_cpu_s": time.process_time() - cpu}
        found["index_ms"], answers = timed(lambda query: numbers(store.search(query, MOST, Wanted())), queries)
        found["index_recall"] = recall(answers, truth)
        found |= while_adding(store, sources, options, rng)
        start = time.perf_counter()
        store.close()
        store = FolderStore(place)
        store.search(queries[0], MOST, Wanted())
        found["open_s"] = time.perf_counter() - start
        store.close()
        found |= {f"{name}_mb": (place / name).stat().st_size / 2**20 for name in (folder.NAME, "index.usearch")}
    finally:
        shutil.rmtree(place.parent)
    found["peak_mb"] = peak_mb()
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


def while_adding(
    store: FolderStore, sources: Vectors, options: argparse.Namespace, rng: np.random.Generator
) -> dict[str, float]:
    """Batches are added between searches, and each new picture must be its own nearest neighbour at once."""
    added, first = perturbed(sources, 50 * BATCH, options.noise, rng), len(store)
    adding, searching, right = [], [], 0
    for at in range(0, len(added), BATCH):
        start = time.perf_counter()
        store.add([entry(first + k) for k in range(at, at + BATCH)], added[at : at + BATCH])
        middle = time.perf_counter()
        right += numbers(store.search(added[at], 1, Wanted())) == [first + at]
        adding.append(1000 * (middle - start))
        searching.append(1000 * (time.perf_counter() - middle))
    return {
        "while_adding_search_ms": float(np.median(searching)),
        "while_adding_add_32_ms": float(np.median(adding)),
        "new_found_at_once": right / len(searching),
    }


def measure_faiss(vectors: Vectors, queries: Vectors, truth: list[list[int]]) -> dict[str, float]:
    """faiss's flat index and its HNSW, if it is installed."""
    try:
        import faiss
    except ImportError:
        return {}
    faiss.omp_set_num_threads(1)
    found: dict[str, float] = {}
    flat = faiss.IndexFlatIP(vectors.shape[1])
    hnsw = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    hnsw.hnsw.efConstruction, hnsw.hnsw.efSearch = 128, 256
    for name, index in (("faiss_flat", flat), ("faiss_hnsw", hnsw)):
        start = time.perf_counter()
        index.add(vectors)
        found[f"{name}_build_s"] = time.perf_counter() - start

        def ask(query: Vectors, index: Any = index) -> list[int]:
            neighbours: list[int] = index.search(query[None], MOST)[1][0].tolist()
            return neighbours

        found[f"{name}_ms"], answers = timed(ask, queries)
        found[f"{name}_recall"] = recall(answers, truth)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, help="An .npz file; its largest matrix holds embeddings in rows.")
    parser.add_argument("--number", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=1280, help="Of random directions.")
    parser.add_argument("--noise", type=float, default=0.7, help="How far vectors lie from what they are copies of.")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument(
        "--no-faiss", dest="faiss", action="store_false", help="Leave out faiss, which builds for minutes."
    )
    parser.add_argument("--place", type=Path, help="Folder for a gallery that is removed at the end.")
    found = measure(parser.parse_args())
    print(json.dumps(found, indent=2))
    columns = ("number", "dimension", "index_recall", "index_ms", "exact_ms", "numpy_ms", "faiss_hnsw_recall",
               "faiss_hnsw_ms", "build_cpu_s", "peak_mb")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n| {' | '.join(str(found.get(name, '–')) for name in columns)} |")


if __name__ == "__main__":
    main()
