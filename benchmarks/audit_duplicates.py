"""Plant copies among real photographs, look for them, and say what else is found.

usage: audit_duplicates.py WORK_FOLDER [SEED]     (FIELDMARK_DATA holds CUB_200_2011_first50 and flowers-102)

For each kind copies are made of 200 photographs: the same file, re-encoded (JPEG quality 60), resized (to half),
cropped (each of the four edges moved inwards by 0 to 10 % of the side, uniformly), mirrored, both, turned by a quarter.
All are read as one unsplit data set. Recall is the share of copies found to show the picture that they were made
from. Pairs found among the photographs themselves were not planted: WORK_FOLDER/others.png shows them all, to be
judged by eye, and strange.png pairs of a copy and something else.
The limits were set with seed 0; the default is another.
Results go to results/audit-duplicates.json.
"""

import io
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from fieldmark.data.auditing.copies import copies, joined
from fieldmark.data.auditing.examine import SIDE
from fieldmark.data.cache import build_store
from fieldmark.data.catalog import Catalog

CELL, ACROSS = 150, 6


def cropped(image, generator):
    left, right, top, bottom = generator.uniform(0, 0.1, 4)
    width, height = image.size
    return image.crop((left * width, top * height, (1 - right) * width, (1 - bottom) * height))


KINDS = {
    "exact": None,
    "re-encoded": lambda image, generator: image,
    "resized": lambda image, generator: image.resize((image.width // 2, image.height // 2)),
    "cropped": cropped,
    "mirrored": lambda image, generator: ImageOps.mirror(image),
    "cropped and mirrored": lambda image, generator: ImageOps.mirror(cropped(image, generator)),
    "turned": lambda image, generator: image.rotate(90, expand=True),
}


def planted(file, kind, generator):
    """The bytes of a copy."""
    if KINDS[kind] is None:
        return file.read_bytes()
    data = io.BytesIO()
    KINDS[kind](Image.open(file).convert("RGB"), generator).save(
        data, "JPEG", quality=60 if kind == "re-encoded" else 90
    )
    return data.getvalue()


def show(files, pairs, place):
    """A sheet of pairs side by side."""
    sheet = Image.new("RGB", (ACROSS * (2 * CELL + 10), (len(pairs) // ACROSS + 1) * (CELL + 24)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, pair in enumerate(pairs):
        x, y = number % ACROSS * (2 * CELL + 10), number // ACROSS * (CELL + 24)
        for side, row in enumerate((pair.first, pair.second)):
            sheet.paste(ImageOps.pad(Image.open(files[row]).convert("RGB"), (CELL, CELL)), (x + side * CELL, y))
        draw.text(
            (x, y + CELL + 4), f"{pair.how}: {files[pair.first].stem[-22:]} {files[pair.second].stem[-22:]}", "black"
        )
    sheet.save(place)


def main(work, seed, per_kind=200):
    data = Path(os.environ["FIELDMARK_DATA"]).resolve()
    files = sorted([*data.glob("CUB_200_2011_first50/images/*/*.jpg"), *data.glob("flowers-102/jpg/*.jpg")])
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(files))[: per_kind * len(KINDS)]
    kinds = [kind for kind in KINDS for _ in range(per_kind)]
    (work / "copies").mkdir(parents=True, exist_ok=True)
    copied = []
    for row, kind in zip(chosen, kinds, strict=True):
        copied.append(work.resolve() / "copies" / f"{kind} {row}.jpg")
        copied[-1].write_bytes(planted(files[row], kind, generator))
    every = [*files, *copied]
    paths, none = tuple(str(file)[1:] for file in every), np.full(len(every), "")
    catalog = Catalog("planted", Path("/"), paths, np.zeros(len(every), np.int64), ("a", "b"), none, none)

    began = time.perf_counter()
    store = build_store(catalog, side=SIDE, keep=np.zeros(len(every), bool))
    assert not store.unreadable
    read = time.perf_counter()
    pairs = copies(store.fingerprints, lambda row: store[row].pixels)
    compared = time.perf_counter()

    cluster = joined(pairs, len(every))
    found = cluster[len(files) :] == cluster[chosen]
    recall = {kind: float(np.mean(found[np.array(kinds) == kind])) for kind in KINDS}
    strange = [pair for pair in pairs if pair.second >= len(files) and pair.first != chosen[pair.second - len(files)]]
    others = [pair for pair in pairs if pair.second < len(files)]
    show(files, others, work / "others.png")
    show(every, strange, work / "strange.png")
    for kind, share in recall.items():
        print(f"{kind:<22} recall {share:.3f} of {per_kind}")
    print(f"pairs of photographs that were not planted: {len(others)} {dict(Counter(pair.how for pair in others))}")
    print(f"pairs of a copy and a photograph that it was not made from: {len(strange)}")
    print(f"{len(every):,} images: read in {read - began:.0f} s, compared in {compared - read:.0f} s")
    result = {
        "command": "python benchmarks/audit_duplicates.py WORK_FOLDER",
        "seed": seed,
        "images": len(every),
        "planted_per_kind": per_kind,
        "recall": recall,
        "seconds": {"read": round(read - began, 1), "compared": round(compared - read, 1)},
        "others": [{"first": files[p.first].name, "second": files[p.second].name, "how": p.how} for p in others],
    }
    place = Path(__file__).parent / "results" / "audit-duplicates.json"
    place.write_text(json.dumps(result, indent=1) + "\n")


main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
