"""Pictures from shards beside the same pictures as files, and the memory of an index of a million rows.

usage: shards.py DATA [--images 1500] [--rounds 3] [--rows 1000000] [--out FILE]

Everything is decoded for 224 px, as a training decodes what its cache does not hold, in the same shuffled order, in one
thread; the ways take turns, after a round that fills the file cache of the operating system. The memory is that of a
process of its own, which reads a generated index of a set like iNaturalist (10,000 classes, six levels) and then walks
through it in random order; the shards themselves are stand-ins without contents.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE = 336


def images_per_second(catalog, rows):
    """Decoded in one thread, in the order of the rows; processor time, since machines are shared."""
    from fieldmark.data.decode import decode

    begun = time.process_time()
    for row in rows:
        decode(catalog.file(int(row)), short_side=SIDE)
    return len(rows) / (time.process_time() - begun)


def speeds(data, images, rounds, folder):
    import fsspec

    from fieldmark.data.sets import read
    from fieldmark.data.sharding import write_shards

    catalog = read(data)
    catalog = catalog.select(np.random.default_rng(0).permutation(len(catalog))[:images])
    begun = time.process_time()
    written = write_shards(catalog, folder, size=25_000_000)
    writing = written.images / (time.process_time() - begun)
    write_shards(catalog, "memory://shards", size=25_000_000)
    ways = {"files": catalog, "shards": read(folder), "shards through fsspec": read("memory://shards")}
    order = np.random.default_rng(1).permutation(len(catalog))
    took = {way: [] for way in ways}
    for round_number in range(rounds + 1):
        for way, one in ways.items():
            speed = images_per_second(one, order)
            if round_number:
                took[way].append(speed)
    fsspec.filesystem("memory").rm("/shards", recursive=True)
    ratios = {way: [a / b for a, b in zip(took[way], took["files"], strict=True)] for way in took}
    return {
        "images": written.images,
        "shards": written.shards,
        "bytes_beside_pictures": written.size / sum(catalog.file(r).stat().st_size for r in range(len(catalog))) - 1,
        "written_per_second": writing,
        "images_per_second": {way: statistics.median(values) for way, values in took.items()},
        "of_files": {way: [statistics.median(r), min(r), max(r)] for way, r in ratios.items()},
    }


def write_index(folder, rows, classes=10_000, in_shard=4_000):
    """An index of addresses in sparse files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    size, label = 80_000, rng.integers(0, classes, rows)
    shard, place = np.divmod(np.arange(rows), in_shard)
    paths = [
        f"train-{s:06}.tar/{512 + p * (size + 1024)}+{size}/{k:05}_Some_species_name/{r:032x}.jpg"
        for r, (s, p, k) in enumerate(zip(shard.tolist(), place.tolist(), label.tolist(), strict=True))
    ]
    columns = {"path": paths, "label": [f"Genus{k // 4} species{k}" for k in label.tolist()]}
    columns["split"] = ["val" if r % 27 == 0 else "train" for r in range(rows)]
    for level, share in (
        ("genus", 4),
        ("family", 20),
        ("order", 80),
        ("class", 400),
        ("phylum", 2000),
        ("kingdom", 4000),
    ):
        columns[f"level.{level}"] = [f"{level}{k // share}" for k in label.tolist()]
    pq.write_table(pa.table(columns), folder / "catalog.parquet", compression="zstd")
    for s in range(int(shard[-1]) + 1):
        with (folder / f"train-{s:06}.tar").open("wb") as file:
            file.truncate(in_shard * (size + 2048))


def resident():
    """Megabytes."""
    import os

    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(folder, rows):
    """What reading the index leaves behind, what it took for a while, and what walking through it adds."""
    import gc
    import resource

    import fieldmark.data.loader as loader
    from fieldmark.data.sets import read

    assert loader
    first = resident()
    begun = time.process_time()
    catalog = read(folder)
    seconds = time.process_time() - begun
    assert len(catalog) == rows
    gc.collect()
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    held = resident()
    schedule = loader.Schedule(catalog.rows("train"), batch_size=256, epochs=1, seed=0)
    letters = 0
    for keys in schedule.batches(0):
        letters += sum(len(catalog.paths[row]) for _, row in keys)
    walked = resident()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {
        "rows": rows,
        "seconds_to_read": seconds,
        "index_on_disk_mb": (folder / "catalog.parquet").stat().st_size / 1e6,
        "bytes_per_row": (held - first) * 1e6 / rows,
        "bytes_per_row_while_reading": (peak - first) * 1e6 / rows,
        "mb_before": first,
        "mb_after_reading": held,
        "mb_after_an_epoch": walked,
        "mb_at_most": peak,
    }


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", type=Path)
parser.add_argument("--images", type=int, default=1500)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--rows", type=int, default=10**6)
parser.add_argument("--out", type=Path)
parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
options = parser.parse_args()
if options.child:
    print(json.dumps(memory(options.data, options.rows)))
    sys.exit()
with tempfile.TemporaryDirectory() as scratch:
    found = {"speed": speeds(options.data, options.images, options.rounds, Path(scratch) / "shards")}
    (index := Path(scratch) / "index").mkdir()
    write_index(index, options.rows)
    child = [sys.executable, __file__, str(index), "--child", "--rows", str(options.rows)]
    found["memory"] = json.loads(subprocess.check_output(child))
text = json.dumps(found, indent=2)
print(text)
if options.out:
    options.out.write_text(text + "\n")
