"""`build_store` by several at once, and builds that do not reach their end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fieldmark.data import cache
from fieldmark.data.cache import PixelStore, build_store
from fieldmark.data.catalog import Catalog
from support.stores import SIDE, assert_right, make_catalog, stores


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "images").mkdir()
    return make_catalog(tmp_path / "images")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


BUILD = """
import sys, time
from pathlib import Path
import numpy as np
from fieldmark.data import cache
from fieldmark.data.catalog import Catalog
root, folder, slow = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
paths = tuple(sorted(path.name for path in root.iterdir()))
blank = np.full(len(paths), "")
catalog = Catalog("noise", root, paths, np.zeros(len(paths), np.int64), ("one",), blank, blank)
see = cache._see
def slowly(job, row):
    print("image", row, flush=True)
    time.sleep(slow)
    return see(job, row)
cache._see = slowly
store = cache.build_store(catalog, side=20, folder=folder, workers=1)
assert store.cached.all() and not store.notes, store.notes
for row in range(len(paths)):
    assert (store[row].pixels == cache.decode(catalog.file(row), short_side=20).pixels).all()
print("done")
"""


def start(catalog: Catalog, folder: Path, slow: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(catalog.root), str(folder), str(slow)]
    source = str(Path(cache.__file__).parents[2])
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": source})


@pytest.mark.skipif(os.name == "nt", reason="processes are killed differently there")
def test_a_killed_build_leaves_nothing_half_used(catalog: Catalog, folder: Path) -> None:
    process = start(catalog, folder, slow=60)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("image")
    process.kill()
    process.wait()
    process.stdout.close()
    assert [Path(name).suffix for name in stores(folder)] == [".part"]
    store = build_store(catalog, side=SIDE + 5, folder=folder)  # of other pixels: sweeps all the same
    assert store.file is not None
    assert stores(folder) == [store.file.parent.name]


def test_a_build_that_fails_leaves_nothing(catalog: Catalog, folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(catalog, side=SIDE, folder=folder, progress=stop)
    assert stores(folder) == []
    assert build_store(catalog, side=SIDE, folder=folder).cached.all()


def test_two_processes_build_once(catalog: Catalog, folder: Path) -> None:
    processes = [start(catalog, folder, slow=0.02) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert all(output.endswith("done\n") for output in outputs), outputs
    assert sum(output.count("image") for output in outputs) == 12
    assert len(stores(folder)) == 1


def test_threads_of_one_process_build_once(catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    see = cache._see
    barrier = threading.Barrier(3)

    def counted(job: cache._Job, row: int) -> object:
        seen.append(row)
        time.sleep(0.005)
        return see(job, row)

    def build(_: int) -> PixelStore:
        barrier.wait()
        return build_store(catalog, side=SIDE, folder=folder, workers=1)

    monkeypatch.setattr(cache, "_see", counted)
    with ThreadPoolExecutor(3) as pool:
        for store in pool.map(build, range(3)):
            assert_right(store)
    assert sorted(seen) == list(range(12))
