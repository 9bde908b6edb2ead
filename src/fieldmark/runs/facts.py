"""What the JSON files of a run hold, as types. What is written later than today may have further keys."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NotRequired

from annotated_types import Interval, MinLen, Predicate
from typing_extensions import TypedDict

from fieldmark.core.machine import Layout
from fieldmark.evaluation.metrics import ScoreValues

__all__ = [
    "SCORE_TITLES",
    "Background",
    "BudgetFacts",
    "BudgetProbe",
    "BudgetShare",
    "BudgetTrial",
    "Count",
    "DetectionValues",
    "Environment",
    "Facts",
    "LogLine",
    "MachineValues",
    "Memory",
    "Scores",
    "Seconds",
    "Source",
    "Tuned",
    "Unlabelled",
    "VerdictValues",
    "View",
    "ViewedImage",
]

Split = Literal["train", "val", "test"]
Count = Annotated[int, Interval(ge=0, lt=2**53)]
_SHARE = re.compile(r"0(\.\d{1,20})?|1", re.ASCII)
View = Literal["whole", "alone", "scenery", "same", "other"]
Number = float | None
"""None stands for what is not finite."""
Seconds = dict[str, Annotated[float, Interval(ge=0, le=1e12)]]
"""times.json, by stage."""
Memory = dict[str, Count]
"""memory.json, in bytes."""


class MachineValues(TypedDict):
    """The fields of `Machine`."""

    device: str
    threads: Annotated[int, Interval(ge=1, lt=2**16)]
    workers: Annotated[int, Interval(ge=0, lt=2**16)]
    precision: Literal["fp32", "bf16"]
    layout: NotRequired[Layout]
    compiled: NotRequired[bool]


class Flip(TypedDict):
    """What was measured of mirror images."""

    keeps_meaning: bool
    pair: NotRequired[list[str]]
    exchanged: NotRequired[float]


class BesideProbe(TypedDict):
    """How a probe and what was trained answer the same validation images; shares, and their difference."""

    probe: float
    trained: float
    gain: float
    low: float
    high: float


class Trial(TypedDict):
    """How a probe and the network answered the images of a trial; shares."""

    images: Count
    probe: float
    network: float
    error: NotRequired[float]
    """The standard error of their difference."""


class GreyBits(TypedDict):
    """How many bits 16-bit greyscale pictures use; None if there are none of them."""

    bits: Annotated[int, Interval(ge=1, le=16)] | None
    largest: NotRequired[Count]
    pictures: NotRequired[Count]


class PseudoLabels(TypedDict):
    """Photographs without labels that were learnt from, how certain their pseudo-labels are on average, and how many
    images of a trial were right without and with them."""

    photographs: Count
    used: Count
    certainty: float
    tried: Count
    alone: Count
    taught: Count


class DigestFacts(TypedDict):
    """How many things there were, and a hash that they are known by."""

    number: Count
    digest: str


class Older(TypedDict):
    """The run that this one goes on from, and the state of its bundle."""

    run: str
    state: str


class ClassChange(TypedDict):
    """How many of the images of a class that both runs held out were right before, and are now."""

    name: str
    images: Count
    before: Count
    after: Count


class Changed(TypedDict):
    """How an older run and this one answer the images that both held out; shares, and their difference."""

    run: str
    images: Count
    before: float
    after: float
    gain: float
    low: float
    high: float
    classes: list[ClassChange]
    taken: Count
    """Images that this run takes for a class that the older one did not know."""
    new_images: Count
    new_right: Count
    """Held-out images that the older run did not have, and how many are right."""


class Grown(TypedDict):
    """What a run has that the one that it goes on from had not."""

    images: Count
    """By split together."""
    train: Count
    classes: list[str]


class Tuned(TypedDict):
    """How fast bare steps are in each way that the machine can compute; {} if that could not be found out."""

    images_per_second: dict[str, Annotated[float, Interval(gt=0, le=1e12)]]
    took: float
    """Seconds."""
    compiling: NotRequired[Annotated[float, Interval(ge=0, le=1e6)]]
    """Of these, what it took to compile the network."""


class Decided(TypedDict):
    """What was measured of the data and the machine, and decided by it."""

    flip: NotRequired[Flip]
    grey_bits: NotRequired[GreyBits]
    weights: NotRequired[str]
    beside_probe: NotRequired[BesideProbe]
    solver: NotRequired[Literal["gradient", "logistic"]]
    trial: NotRequired[Trial]
    unlabelled: NotRequired[DigestFacts]
    pseudo_labels: NotRequired[PseudoLabels]
    older: NotRequired[Older]
    grown: NotRequired[Grown]
    changed: NotRequired[Changed]
    tuned: NotRequired[Tuned]
    pieces: NotRequired[Annotated[int, Interval(ge=1, lt=2**31)]]
    """In how many pieces a batch is computed, since memory did not suffice for more at once."""


class Environment(TypedDict):
    """environment.json."""

    format: int
    fieldmark: str
    python: str
    packages: dict[str, str]
    platform: str
    machine: MachineValues
    moved: NotRequired[list[MachineValues]]
    command: list[str]
    started: str
    decided: NotRequired[Decided]


class Source(TypedDict):
    """Where data lies, and by which columns a table is read."""

    source: str
    columns: NotRequired[dict[str, str]]


class Facts(Source):
    """data.json."""

    further: NotRequired[list[Source]]
    """Later data, which stands behind what `source` holds; see `fieldmark.data.joining`."""
    root: str
    num_images: Count
    name: str
    classes: list[str]
    taxonomy: dict[str, list[str]]
    counts: dict[str, Count]
    digests: dict[str, str]
    """Of the table of each split."""
    pictures: NotRequired[dict[str, str]]
    """Of the contents of each split's pictures; earlier versions did not look at them."""
    decisions: NotRequired[DigestFacts]
    """By which the data was changed in memory; they are in decisions.csv."""


class Unlabelled(TypedDict):
    """unlabelled.json: photographs without labels, as they were named; to label some of them, or to learn from all."""

    paths: list[str]
    columns: NotRequired[dict[str, str]]


class BudgetProbe(TypedDict):
    """A probe that was tried: what it cost, and the share of validation images that it had right."""

    backbone: str
    size: Count
    spent: float
    accuracy: float
    strength: float


class BudgetTrial(TypedDict):
    """A network that was trained for a while, or to the end: all that it cost, and what a step did."""

    name: str
    recipe: NotRequired[str]
    """The name of a recipe that competes with the one that was asked for."""
    backbone: str
    size: Count
    freeze: Count
    start: Literal["random", "logistic"]
    rounds: Count
    """Of trials against others that it has been through; 0 once it has been trained to its end."""
    stood: NotRequired[list[float]]
    """The accuracy after each of those trials, by which it went on or not."""
    steps: Count
    epochs: float
    step: float
    spent: float
    accuracy: float


class BudgetWay(TypedDict):
    """A way to train a network."""

    recipe: NotRequired[str]
    size: Count
    freeze: Count
    start: Literal["random", "logistic"]


class BudgetPlan(TypedDict):
    """The networks that are tried, and what each may spend in a round."""

    ways: list[BudgetWay]
    each: float


class BudgetShare(TypedDict):
    """What the steps of a network have cost in the round that it is in."""

    name: str
    rounds: Count
    spent: float


class BudgetFacts(TypedDict):
    """budget.json: what a training may take and has taken, in one unit, and what it tried and chose."""

    written: str
    amount: Annotated[float, Interval(gt=0)]
    unit: Literal["seconds", "images"]
    asked: str
    """The recipe that was asked for, as TOML."""
    open: list[str]
    """What it leaves to the budget: "recipe", "backbone", "size", "freeze", "solver", "epochs"."""
    rivals: NotRequired[dict[str, str]]
    """Recipes that may compete with it, by name, likewise."""
    spent: Annotated[float, Interval(ge=0)]
    size: NotRequired[Count]
    """Of the first probe."""
    validation: NotRequired[Count]
    """Images that judged."""
    by: NotRequired[Literal["validation", "folds"]]
    """Whether validation images judged, or folds of the training images, for want of them."""
    probes: list[BudgetProbe]
    plan: NotRequired[BudgetPlan]
    trying: NotRequired[BudgetShare]
    """Of the network that is being trained."""
    failed: NotRequired[dict[str, str]]
    """Networks that could not be trained, by name, and why."""
    trials: list[BudgetTrial]
    chosen: NotRequired[str]
    """What ships, in words."""
    because: NotRequired[list[str]]
    """Why, in sentences."""


class LogLine(TypedDict):
    """A line of log.jsonl."""

    fit: str
    epoch: Count
    step: Count
    seconds: Annotated[float, Interval(ge=0)]
    loss: NotRequired[Number]
    validation_seconds: NotRequired[Annotated[float, Interval(ge=0)]]
    val_top1: NotRequired[float]
    val_nll: NotRequired[Number]


SCORE_TITLES = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "mean_class_accuracy": "balanced accuracy (mean recall)",
    "majority": "always the most frequent class",
    "nll": "negative log-likelihood",
    "calibration_error": "calibration error (L1)",
    "quadratic_kappa": "quadratic weighted kappa",
    "grade_error": "mean error in grades",
    "tree_distance": "mean taxonomic distance",
    "mistake_severity": "mean taxonomic distance of mistakes",
}
"""What the scores of scores.json are called, in the order in which they are shown."""


class AttributeValues(ScoreValues):
    """The score of an attribute."""

    num_images: Count


class Confused(TypedDict):
    """Two classes that are mistaken for each other."""

    first: str
    second: str
    first_as_second: Count
    second_as_first: Count
    num_first: Count
    num_second: Count


class ViewedImage(TypedDict):
    """An image of a report on background reliance, in its views."""

    path: str
    label: str
    files: dict[View, Annotated[str, Predicate(re.compile(r"background/[\w-]+\.jpg").fullmatch)]]
    said: dict[View, str]


class Background(TypedDict):
    """background.json."""

    accuracy: dict[View, ScoreValues]
    chance: float
    num_images: Count
    known_by: str
    advice: str
    examples: list[ViewedImage]


class VerdictValues(TypedDict):
    """What a report reads of the scores of verdicts."""

    risk: Annotated[list[float], MinLen(1)]
    shares: dict[str, float]
    promised: NotRequired[float | bool | None]
    """True or False where an earlier version evaluated."""
    promises: NotRequired[dict[Annotated[str, Predicate(_SHARE.fullmatch)], float | None]]
    right: NotRequired[ScoreValues | None]


class DetectionValues(TypedDict):
    """The scores of a class of interest."""

    name: str
    asked: float
    threshold: float
    sensitivity: ScoreValues
    specificity: ScoreValues
    auroc: ScoreValues


class Scores(TypedDict):
    """scores.json."""

    top1: ScoreValues
    top5: NotRequired[ScoreValues]
    mean_class_accuracy: NotRequired[ScoreValues]
    nll: NotRequired[ScoreValues]
    calibration_error: NotRequired[ScoreValues]
    quadratic_kappa: NotRequired[ScoreValues]
    grade_error: NotRequired[ScoreValues]
    tree_distance: NotRequired[ScoreValues]
    mistake_severity: NotRequired[ScoreValues]
    num_images: Count
    looks: Count | None
    unreadable: list[str]
    confused: list[Confused]
    verdicts: NotRequired[VerdictValues | None]
    enrolment: NotRequired[str]
    of_interest: NotRequired[list[DetectionValues]]
    attributes: NotRequired[dict[str, AttributeValues]]
