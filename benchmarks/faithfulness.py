"""Are explanations true? Deletion, insertion, pointing, swaps, randomised weights; beside Grad-CAM.

usage: faithfulness.py photographs RUN OUT.json [NUM_IMAGES] [PART]     key points where the data has them
       faithfulness.py marks RUN GUIDE_FOLDER OUT.json [PART]           field guides: is it the differing mark?
       faithfulness.py time RUN IMAGE …                                 seconds beyond the prediction

Of photographs: A is the answer, right or wrong, B the runner-up. What decided (A against all others) is compared with
Grad-CAM of A on the last map; swaps and randomised weights are about A against B. Of field guides: right answers, each
other species of the genus for B. PART is test if not given. Options were chosen on val.
"""

import copy
import io
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from explanation_measures import (
    curves,
    gain,
    grad_cam,
    likeness,
    nearest_point,
    peak_of,
    randomised,
    swaps,
)
from PIL import Image
from scipy import ndimage
from scipy.stats import spearmanr

from fieldmark import Run, read
from fieldmark.answering.explaining.evidence import Contrast, find_evidence
from fieldmark.answering.explaining.examples import counterparts
from fieldmark.answering.explaining.explainer import Explainer
from fieldmark.answering.explaining.explanation import NUM_EXAMPLES, exchange, exchange_whole
from fieldmark.answering.explaining.regions import find_regions
from fieldmark.answering.explaining.taps import last_map, tap
from fieldmark.answering.views import short_side
from fieldmark.core.storage import write_json
from fieldmark.data.decode import decode
from fieldmark.fieldguide import mark_id, read_guide, render
from fieldmark.fieldguide.truth import sightings


def seen(predictor, pixels):
    """Normalised (1, 3, S, S)."""
    return predictor.model.backbone.normalization(torch.from_numpy(predictor.view(pixels))[None])


def answered(method, image):
    """Logits (K,)."""
    with torch.no_grad():
        return method(image).logits[0]


def contrast_of(bundle, a, b):
    """Calibrated where the bundle is."""
    if bundle.calibration is None:
        return Contrast(a, b)
    scale, bias = bundle.calibration.scaling.scale, bundle.calibration.scaling.bias
    return Contrast(a, b, (float(scale[a]), float(scale[b])), float(bias[a] - bias[b]))


def points_in_view(bundle, catalog, row, decoded):
    """Visible key points (P, 2) in pixels of the view, and the root of the box's area."""
    height, width = decoded.pixels.shape[:2]
    images = bundle.images
    scale, side = width / decoded.size[0], images.crop * min(height, width)
    corner = np.array([(width - side) / 2, (height - side) / 2])
    points = catalog.keypoints[row]
    points = (points[points[:, 2] > 0, :2] * scale - corner) * images.size / side
    *_, w, h = catalog.boxes[row] * scale * images.size / side
    return points, float(np.sqrt(w * h))


def photographs(run, out, count=100, split="test"):
    """Every measure that needs no drawing."""
    explainer, start = Explainer(run), time.monotonic()
    bundle, method = explainer.bundle, explainer.method
    catalog, splits = read(Run(run).data()["source"]), Run(run).splits()
    rows = np.array([i for i, path in enumerate(catalog.paths) if splits.get(path) == split])
    rows = np.random.default_rng(0).permutation(rows)[: int(count)]
    place, end, side = tap(method, bundle.images.size), last_map(method), bundle.images.size
    temperature = bundle.calibration.scaling.temperature if bundle.calibration else 1.0
    other = {whole: copy.deepcopy(method) for whole in (False, True)}
    for whole, one in other.items():
        randomised(one, seed=0, whole=whole)
    found, rng = [], np.random.default_rng(1)
    for row in rows:
        decoded = decode(catalog.file(row), short_side=short_side(bundle.images))
        image = seen(explainer.predictor, decoded.pixels)
        a, b = (int(k) for k in answered(method, image).topk(2).indices)
        contrast = contrast_of(bundle, a, b)
        evidence = find_evidence(method, image, contrast, place)
        answer = find_evidence(method, image, explainer._against_all(a), place).cells
        maps = {"evidence": answer, "grad_cam": grad_cam(method, image, a, end)}
        line = {"path": catalog.paths[row], "margin": evidence.margin, "rest": evidence.rest}
        for name, cells in maps.items():
            deletion, insertion = curves(method, image, cells, a, 1 / temperature)
            line |= {f"deletion {name}": deletion, f"insertion {name}": insertion}
            if catalog.keypoints is not None:
                points, scale = points_in_view(bundle, catalog, row, decoded)
                if len(points):
                    distance = nearest_point(cells, points, side) / scale
                    line |= {f"distance {name}": distance, f"hit {name}": float(distance < 0.1)}
        for whole, one in other.items():
            drawn = find_evidence(one, image, contrast, tap(one, side))
            line["after randomising " + ("everything" if whole else "the head")] = likeness(evidence.cells, drawn.cells)
        regions = find_regions(evidence.cells, evidence.parts)
        known = [explainer.known(bundle.classes[k]) for k in (a, b)]
        if regions and all(known):
            line |= swaps(
                method, image, contrast, place, evidence, regions[0].cells, known, rng, {catalog.paths[row]}
            )._asdict()
        found.append(line)
        print(len(found), f"{time.monotonic() - start:.0f} s", flush=True)
    write_json(Path(out), summary(found) | {"run": Path(run).name, "split": split, "images": len(found)})


def summary(lines):
    """Means, paired gains over Grad-CAM (positive is better), and the ratios of the swaps."""
    columns = {key: [line[key] for line in lines if key in line] for key in dict.fromkeys(k for x in lines for k in x)}
    figures = {"mean": {key: float(np.mean(v)) for key, v in columns.items() if key != "path"}, "gain": {}}
    for measure, sign in (("deletion", -1), ("insertion", 1), ("distance", -1), ("hit", 1)):
        pairs = [(x[f"{measure} evidence"], x[f"{measure} grad_cam"]) for x in lines if f"{measure} evidence" in x]
        if pairs:
            figures["gain"][measure] = gain([sign * (one - other) for one, other in pairs])._asdict()
    if "named" in columns:
        moved = {key: float(np.abs(columns[key]).mean()) for key in ("named", "random", "own")}
        figures["swaps"] = moved | {f"named / {key}": moved["named"] / moved[key] for key in ("random", "own")}
        figures["swaps"]["median named / random, own"] = [
            float(np.median(np.abs(columns["named"])) / np.median(np.abs(columns[key]))) for key in ("random", "own")
        ]
    for key, value in figures.items():
        print(key, value)
    return figures


def drawn_as_kept(drawing):
    """The pixels of the picture in the folder: a JPEG."""
    data = io.BytesIO()
    Image.fromarray(drawing.pixels).save(data, "JPEG", quality=95, subsampling=0)
    return np.asarray(Image.open(data))


def marks(run, folder, out, split="test"):
    """Is the peak at the mark that differs? Does the exchange say what redrawing the bird does?"""
    explainer, guide = Explainer(run), read_guide(Path(folder))
    bundle, method, side = explainer.bundle, explainer.method, explainer.bundle.images.size
    assert bundle.images.crop == 1.0 or bundle.images.whole, "masks are of whole pictures"
    place, end = tap(method, side), last_map(method)
    names = [one.name for one in guide.species]
    row_of = {name: bundle.classes.index(name) for name in names}
    lines, num_right, num_hidden, num_seen = [], 0, 0, 0
    for one in (one for one in sightings(guide) if one.split == split):
        drawing = render(guide, one.species, one.index)
        image = seen(explainer.predictor, drawn_as_kept(drawing))
        num_seen += 1
        if bundle.classes[int(answered(method, image).argmax())] != names[one.species]:
            continue
        num_right += 1
        places = np.asarray(Image.fromarray(drawing.marks).resize((side, side), Image.Resampling.NEAREST))
        genus = guide.species[one.species].genus
        for other in (o for o in guide.species if o.genus == genus and o.index != one.species):
            mask = np.isin(places, [mark_id(mark) for mark in guide.differing_marks(one.species, other.index)])
            if not mask.any():  # something in front of it
                num_hidden += 1
                continue
            lines.append(one_pair(explainer, guide, image, one, other, mask, place, end, row_of))
            print(len(lines), lines[-1], flush=True)
    figures = {
        "run": Path(run).name, "split": split, "right": num_right, "of": num_seen,
        "pairs": len(lines), "hidden": num_hidden,
        "mean": {key: float(np.mean([x[key] for x in lines])) for key in lines[0]},
        "gain over Grad-CAM": gain([x["hit"] - x["hit grad_cam"] for x in lines])._asdict(),
        "gain over Grad-CAM of the margin": gain([x["hit"] - x["hit last map"] for x in lines])._asdict(),
        "spearman": {key: float(spearmanr([x[key] for x in lines], [x["redrawn"] for x in lines]).statistic)
                     for key in ("both marks", "exchanged", "evidence")},
    }  # fmt: skip
    print(figures)
    write_json(Path(out), figures)


def one_pair(explainer, guide, image, sighting, other, mask, place, end, row_of):
    """One right answer against one other species of its genus."""
    bundle, method, side = explainer.bundle, explainer.method, image.shape[-1]
    name, rival = guide.species[sighting.species].name, other.name
    contrast = contrast_of(bundle, row_of[name], row_of[rival])
    evidence = find_evidence(method, image, contrast, place)
    far, line = ndimage.distance_transform_edt(~mask), {}
    last = find_evidence(method, image, contrast, end).cells
    for key, cells in (("", evidence.cells), (" grad_cam", grad_cam(method, image, row_of[name], end)),
                       (" last map", last)):  # fmt: skip
        half = side / len(cells) / 2
        x, y = peak_of(cells, side)
        line["hit" + key] = float(far[int(y), int(x)] <= half)
        line["chance" + key] = float((far <= half).mean())
    redrawn = render(guide, sighting.species, sighting.index, marks_of=other.index)
    logits = answered(method, seen(explainer.predictor, drawn_as_kept(redrawn)))
    line["redrawn"] = float(contrast(logits[None])[0]) - evidence.margin
    regions, known = find_regions(evidence.cells), explainer.known(rival)
    line["exchanged"] = line["both marks"] = line["evidence"] = 0.0
    if regions:
        cells = regions[0].cells
        theirs = counterparts(evidence.map, evidence.last, cells, known)[:NUM_EXAMPLES]
        line["exchanged"] = (
            exchange(method, image, contrast, place, evidence.map, cells, theirs).margin - evidence.margin
        )
        both = exchange_whole(method, image, contrast, place, evidence, cells, theirs, known)
        line["both marks"] = both.exchange.margin - evidence.margin
        line["evidence"] = -float(evidence.cells[cells].sum())
    return line


def timed(run, *images):
    """Wall clock and processor seconds of a prediction, of the picture of its explanation, and of the first one."""
    explainer = Explainer(run)
    shutil.rmtree(Path(run) / "explanations" / "known", ignore_errors=True)
    explainer.predictor.predict(images[:1])  # what is loaded once
    for image in images:
        clock("prediction", lambda image=image: explainer.predictor.predict([image]))
        clock("first explanation of two classes", lambda image=image: explainer(image))
        clock("explanation", lambda image=image: explainer(image))
        clock("with the picture", lambda image=image: explainer(image).png())


def clock(name, step):
    """Print how long it takes."""
    wall, processor = time.perf_counter(), time.process_time()
    step()
    print(f"{name}: {time.perf_counter() - wall:.2f} s, {time.process_time() - processor:.2f} s of processors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"photographs": photographs, "marks": marks, "time": timed}[sys.argv[1]](*sys.argv[2:])
