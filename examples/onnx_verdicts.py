"""Fieldmark's verdicts without Fieldmark: NumPy, Pillow and ONNX Runtime, and a file that `fieldmark export` wrote.

usage: python onnx_verdicts.py model.onnx PHOTOGRAPH …

It prints a line of JSON for each photograph. Colour profiles and 16-bit greys are left to Fieldmark itself, which
converts them first.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def view(path, size, crop, whole, interpolation, short_side):
    """The square that the network sees, (3, size, size), and how it is cut from a picture."""
    with Image.open(path) as image:
        scale = min(1, short_side / min(image.size))
        target = tuple(max(1, round(side * scale)) for side in image.size)
        if scale < 1:
            image.draft(None, (2 * target[0], 2 * target[1]))
        picture = image.convert("RGB")
        if picture.size != target:
            picture = picture.resize(target, Image.Resampling.BICUBIC, reducing_gap=3.0)
        picture = ImageOps.exif_transpose(picture)
    width, height = picture.size
    wide, high = (width, height) if whole else (crop * min(width, height),) * 2
    left, top = (width - wide) / 2, (height - high) / 2
    method = Image.Resampling[interpolation.upper()]
    # first the width and then the height: by itself, Pillow chooses by the picture's shape
    picture = picture.resize((size, height), method, (left, 0, left + wide, height))
    return np.asarray(picture.resize((size, size), method, (0, top, size, top + high))).transpose(2, 0, 1)


def verdict(rules, log_probabilities, familiarity=None):
    """What Fieldmark says of one picture, from its log-probabilities (K,) and its familiarity."""
    p = np.exp(log_probabilities.astype(np.float64))
    order = np.argsort(-p, kind="stable")
    found = {"label": rules["classes"][order[0]], "probability": p[order[0]]}
    if (v := rules.get("verdicts")) is None:
        return found
    below = np.searchsorted(v["known"], familiarity, side="right") + 1
    found["familiar"] = bool(below / (len(v["known"]) + 1) > 1 - v["accepted"])
    found |= {"name": None, "level": "none"}
    raised = np.exp(v["sharpness"] * (log_probabilities - log_probabilities.max()))
    for level in rules["levels"] if found["familiar"] and "threshold" in v else ():
        summed = np.bincount(level["of"], p)
        best = summed.argmax()
        sure = summed[best]
        if v["sharpness"] != 1:
            sharp = np.bincount(level["of"], raised)[best] / raised.sum()
            sure = np.interp(sharp, v["sharpened"], v["calibrated"])
        if sure >= v["threshold"]:
            found |= {"name": level["names"][best], "level": level["name"], "certainty": min(1.0, summed[best])}
            break
    if "limits" in v:  # the classes that cannot be ruled out
        rank = np.arange(len(p))
        score = np.cumsum(p[order]) - p[order] + v["penalty"]["weight"] * np.maximum(0, rank + 1 - v["penalty"]["free"])
        inside = (score <= np.array(v["limits"])[order]) | (rank == 0)
        found["possible"] = [rules["classes"][k] for k in order[inside] if p[k] > 0]
    return found


def main(model, *paths):
    session = onnxruntime.InferenceSession(model)
    rules = json.loads(session.get_modelmeta().custom_metadata_map["fieldmark"])
    wanted = ["log_probabilities", "familiarity"] if "verdicts" in rules else ["log_probabilities"]
    for path in paths:
        answers = session.run(wanted, {"images": view(path, **rules["view"])[None]})
        print(json.dumps({"path": path} | verdict(rules, *(one[0] for one in answers))))


if __name__ == "__main__":
    main(*sys.argv[1:])
