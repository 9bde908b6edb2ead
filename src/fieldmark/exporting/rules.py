"""What a program needs beside the network's answers to give Fieldmark's verdicts, as plain values for metadata.

classes, levels      names, and for each class (K,) which name of a level is above it; the class comes first
view                 how a picture becomes the square that the network sees
attributes           the values of each attribute
photographs          by how many photographs each enrolled class is known
verdicts             thresholds; absent if nothing was held out, and verdicts are plain probabilities
  accuracy, threshold, share   what is promised of the names given: each level needs a confidence of `threshold`
  coverage, limits, penalty    the sets of classes that cannot be ruled out; absent if there are too few images
  sharpness, sharpened, calibrated   the order of confidences; see `fieldmark.evaluation.order`
  known, accepted      familiarity of held-out images, ascending, and the share of them that look familiar
  notes                what cannot be promised
about                where the model comes from, with its licence
"""

from __future__ import annotations

from typing import Any

from fieldmark.answering.views import short_side
from fieldmark.core.version import version
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.unknown import ACCEPTED
from fieldmark.runs.bundle import Bundle

__all__ = ["FORMAT", "rules"]

FORMAT = 1
_TOLD = ("license", "weights", "protocol", "seed", "finished")


def rules(bundle: Bundle) -> dict[str, Any]:
    """The rules of a bundle, for what it promises by default."""
    thresholds = bundle.thresholds()
    found: dict[str, Any] = {
        "format": FORMAT,
        "classes": list(bundle.classes),
        "levels": [
            {"name": level.name, "names": list(level.names), "of": level.parent.tolist()}
            for level in bundle.taxonomy.levels
        ],
        "view": {
            "size": bundle.images.size,
            "crop": bundle.images.crop,
            "whole": bundle.images.whole,
            "interpolation": bundle.interpolation,
            "short_side": short_side(bundle.images),
        },
        "attributes": {name: list(values) for name, values in bundle.attributes.items()},
        "photographs": dict(bundle.photographs),
        "about": {
            "made_by": f"fieldmark {version()}",
            "network": f"{bundle.recipe.method.name} on {bundle.recipe.backbone.name}",
        }
        | {key: bundle.provenance[key] for key in _TOLD if key in bundle.provenance},
    }
    return found | ({"verdicts": _verdicts(thresholds)} if thresholds else {})


def _verdicts(thresholds: Thresholds) -> dict[str, Any]:
    calibration = thresholds.calibration
    given = thresholds.promise
    found: dict[str, Any] = {
        "sharpness": calibration.order.sharpness,
        "sharpened": calibration.order.sharpened.tolist(),
        "calibrated": calibration.order.calibrated.tolist(),
        "known": calibration.familiarity.known.tolist(),
        "accepted": ACCEPTED,
        "notes": list(thresholds.notes),
    }
    if given.threshold is not None:
        found |= {"accuracy": given.accuracy, "threshold": given.threshold, "share": given.share}
    if thresholds.gives_sets:
        found |= {
            "coverage": thresholds.coverage,
            "limits": thresholds.limits.tolist(),
            "penalty": {"weight": calibration.penalty.weight, "free": calibration.penalty.free},
        }
    return found
