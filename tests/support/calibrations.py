"""Calibrations of all sorts, for whatever gives verdicts by their rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.recipe import load_recipe
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.calibration import Calibration, Held
from fieldmark.evaluation.order import Order
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.unknown import class_means, nearness
from fieldmark.runs.bundle import Bundle

__all__ = ["any_calibration"]

CLASSES, ABOVE = "abcdef", {"genus": list("xxyyzz"), "family": list("ppppqq")}


def any_calibration(seed: int) -> tuple[Bundle, Thresholds, NDArray[np.float64], NDArray[np.float64]]:
    """A bundle of six classes in three genera and two families, its thresholds, and calibrated log-probabilities (20,
    6) and nearness (20,) of new pictures. Some models are sure, some have few images, some order by raw softmax."""
    rng = np.random.default_rng(seed)
    taxonomy = Taxonomy.of(CLASSES, ABOVE)
    labels = rng.integers(6, size=int(rng.integers(5, 400)))
    logits = rng.normal(size=(len(labels), 6)) + rng.choice([0.4, 3.0]) * np.eye(6)[labels]
    means = class_means(rng.normal(size=(12, 8)), np.arange(12) % 6, 6)
    held = Held(logits.astype(np.float32), rng.random(len(labels)), labels, np.arange(len(labels)))
    calibration = Calibration.fit(held, means, taxonomy, source="validation")
    if rng.random() < 0.5:
        places = np.linspace(0, 1, 11)
        calibration = replace(calibration, order=Order(2.5, places, np.sqrt(places)))
    bundle = Bundle(tuple(CLASSES), load_recipe("probe"), taxonomy=taxonomy, calibration=calibration)
    new = calibration.scaling(rng.normal(size=(20, 6)) * 3)
    near = nearness(rng.normal(size=(20, 8)), means)
    return bundle, Thresholds.of(calibration, taxonomy), new, near
