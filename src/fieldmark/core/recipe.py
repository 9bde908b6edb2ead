"""A recipe names everything that decides a result. It is TOML without code, checked before any data is read.

Whether the *names* in it exist (methods, optimizers, mixes) is checked against the registries by
`fieldmark.learning.fitting.resolve`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, Strict

from fieldmark.core.backbone_options import ALLOWED, BackboneName, BackboneOptions
from fieldmark.core.errors import RecipeError, nearest
from fieldmark.core.reading import other_version, parse_toml, read_regular, reason
from fieldmark.core.wording import brief

__all__ = ["NONE", "Choice", "Recipe", "about_recipe", "load_recipe", "recipe_names"]

_MOST = 2**20  # bytes of a file with a recipe
_EPOCHS, _LEAST_STEPS, _MOST_EPOCHS = 20, 600, 200
NONE = "none"
"""The name that a recipe gives to a piece that it leaves out."""

_Channel = Annotated[float, Field(ge=-1e3, le=1e3)]
_Spread = Annotated[float, Field(gt=0, le=1e3)]
_Mean = Annotated[tuple[_Channel, _Channel, _Channel], Strict(False)]  # TOML and JSON know lists only
_Std = Annotated[tuple[_Spread, _Spread, _Spread], Strict(False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class Images(_Section):
    """How an image becomes a square of pixels."""

    size: int = Field(default=224, ge=16, le=2048)
    """Side of the network's input when it predicts, in pixels."""
    train_scale: float = Field(default=1.0, gt=0.2, le=2.0)
    """Side in training, relative to `size`. Below 1 it makes up for random crops, which enlarge the object
    (Touvron et al., "Fixing the train-test resolution discrepancy", 2019), and is cheaper."""
    crop: float = Field(default=0.875, gt=0.1, le=1.0)
    """When predicting: the side of the central square, as a share of the short side."""
    whole: bool = False
    """When predicting: use the whole image, squeezed to a square, instead of a central crop."""
    mirror: bool = False
    """When predicting: average over an image and its mirror image, at twice the cost. It is not done if `augment.flip`
    finds that a flip changes what is seen."""
    grey_bits: Literal["auto"] | Annotated[int, Field(ge=8, le=16)] = "auto"
    """How many bits of 16-bit greyscale pictures the camera used: white is 4,095 with 12. "auto": measured on training
    images, so that all pictures are scaled alike; each picture's own if there are no such training images."""
    cache_gb: float = Field(default=8.0, ge=0.0, le=1e6)
    """The most space that decoded pixels may take in the user's cache folder."""

    @property
    def grey_depth(self) -> int | None:
        """`grey_bits` as a number; None for each picture's own."""
        return None if self.grey_bits == "auto" else self.grey_bits

    @property
    def train_size(self) -> int:
        """Side of the network's input in training: a multiple of 32 unless `size` itself is none."""
        return self.size if self.train_scale == 1 else max(32, round(self.size * self.train_scale / 32) * 32)


class Backbone(_Section):
    """A timm model and the source of its weights."""

    name: BackboneName = "tf_efficientnet_lite0"
    """A timm model that sees an image as one square grid of cells, or several that look side by side:
    "tf_efficientnet_lite0+tf_efficientnet_lite1"; see `fieldmark.model.beside`."""
    weights: str = "auto"
    """"auto" (those that are installed, or else the hub's), "installed" (from a package; see
    `fieldmark.model.installed`), "hub" (timm's, downloaded), "none" (random), "fieldguide" (small ones that come with
    Fieldmark, trained on drawn birds) or the path of a safetensors file. Of several networks, "installed+hub" says it
    of each."""
    options: BackboneOptions = {}
    """Numbers and switches of the architecture; see `fieldmark.core.backbone_options`."""
    mean: _Mean | None = None
    """The mean of each colour that the weights expect, for pixels in [0, 1]; timm's own by default. Of several
    networks, what the first expects."""
    std: _Std | None = None
    """The standard deviation of each colour, likewise."""


class Choice(_Section):
    """The name of a registered piece and its options."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, strict=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @property
    def pair(self) -> tuple[str, dict[str, Any]]:
        """Name and options."""
        return self.name, self.options


class Labels(_Section):
    """What the labels say beyond the class."""

    order: Literal["auto", "numbers", "none"] | Annotated[tuple[str, ...], Strict(False)] = "auto"
    """The classes from the lowest grade to the highest, if they are grades. "numbers": in the order of the one number
    that their names differ in ("stage 0", "stage 1", …). "auto": the same, if the names are like that and there are no
    more classes than a scale has. "none": the classes are not grades."""
    attributes: Annotated[tuple[str, ...], Strict(False)] = ()
    """The attributes in the data that are learnt, each by its own head. None are learnt by default: a table may hold
    what a photograph does not show, or what gives the class away."""
    attribute_weight: float = Field(default=1.0, gt=0.0, le=1e6)
    """The weight of their mean loss, which is added to the loss of the class."""
    attribute_balance: float = Field(default=1.0, ge=0.0, le=1.0)
    """1: predict as if all values of an attribute were equally common; 0: as common as they are in training."""


class Augment(_Section):
    """What is done to training images; see `fieldmark.augment`."""

    crop: bool = True
    """Random resized crops; without them, training sees the evaluation view."""
    views: int = Field(default=0, ge=0, le=100_000)
    """The number of random views of each image, which come in turn; 0 = a new one in each epoch. What frozen stages
    (`train.freeze_stages`) make of them is computed once."""
    min_scale: float = Field(default=0.35, gt=0.0, le=1.0)
    """The smallest random crop, as a share of the image's area."""
    flip: bool | Literal["auto"] = "auto"
    """Mirror half of the images. "auto": do so unless class names differ only by left and right, or mirror images of
    one class look like another class; see `fieldmark.learning.training.mirror`."""
    color: float = Field(default=0.0, ge=0.0, le=1.0)
    """How much brightness, contrast, saturation and hue are changed at random."""
    trivial: bool = False
    """One random change of strength and kind for each image (TrivialAugment: Müller & Hutter, 2021)."""
    erasing: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that a random rectangle is erased."""
    align: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that a picture is turned, scaled and moved so that its key points lie as they do on average."""
    warp: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that a picture is bent towards the pose of another image of its class."""
    swap: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that one part is exchanged with that of another image of its class."""
    background: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that the object is put before the background of another image; needs boxes or masks."""
    if_missing: Literal["error", "skip"] = "error"
    """What to do if the data has no key points for `align`, `warp` and `swap`, or neither boxes nor masks for
    `background`: refuse, or go without and say so."""
    mix: str = "none"
    """How training images are mixed: "none", "mixup", "cutmix", "both" (one or the other) or "snapmix"."""
    mix_alpha: float = Field(default=1.0, gt=0.0, le=1e3)
    """Shares are drawn from Beta(alpha, alpha): 1 is uniform, less makes nearly pure images commoner."""
    mix_probability: float = Field(default=1.0, ge=0.0, le=1.0)
    """Probability that a batch is mixed."""

    @property
    def num_views(self) -> int:
        """How many views of an image there are, whatever the number of epochs; 0 if each epoch has its own."""
        changed = self.align or self.warp or self.swap or self.background
        return self.views if self.crop or changed else 1


class Train(_Section):
    """How the weights are learnt."""

    solver: Literal["gradient", "logistic", "auto"] = "gradient"
    """"logistic": the backbone stays as it is and a logistic regression on its embedding is the head. "auto": the same
    if there are eight images of a class or fewer and a trial on them finds it no worse, else "gradient"; see
    `fieldmark.learning.fitting.trial`."""
    epochs: Literal["auto"] | Annotated[int, Field(ge=1, le=100_000)] = 20
    """"auto": 20, or as many more as make 600 steps, since few images make few steps and a new head takes some hundreds
    to learn anything."""
    head_start: Literal["random", "logistic"] = "random"
    """How a linear head starts. "logistic": the head of a probe, so that the first steps do not spoil features
    that a random head would send into the wrong direction (Kumar et al., "Fine-tuning can distort pretrained features
    and underperform out-of-distribution", 2022). On photographs, a random head learns more from few images
    (benchmarks/README.md)."""
    head_epochs: int = Field(default=0, ge=0, le=100_000)
    """The number of epochs that train only what is new, at most half of all epochs."""
    freeze_stages: Literal["all"] | Annotated[int, Field(ge=0, le=1_000)] = 0
    """The number of first stages that stay as they are, or "all". With `augment.views`, they are computed once."""
    batch_size: int = Field(default=32, ge=2, le=65_536)
    """Images in a step."""
    pseudo_weight: float = Field(default=0.0, ge=0.0, le=1.0)
    """How much a photograph without a label counts if it is certain what it shows; 0 = leave such photographs out. See
    `fieldmark.learning.fitting.pseudo_labels`."""
    sampling: Literal["shuffled", "balanced", "class_batches"] = "shuffled"
    """"shuffled": each image once an epoch. "balanced": each class equally often, the images of rare classes again and
    again, under other augmentation. "class_batches": likewise, and a batch has `images_per_class` images of each of its
    classes, for losses that compare images."""
    images_per_class: int = Field(default=4, ge=2, le=65_536)
    """Images of each class in a batch, for `sampling` "class_batches"."""
    optimizer: str = "adamw"
    """"adamw", "adam" or "sgd"."""
    lr: float = Field(default=1e-3, gt=0)
    """The peak learning rate of the backbone's last layer."""
    head_lr: float = Field(default=1e-3, gt=0)
    """The peak learning rate of all that is new: head, neck, parts."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Each earlier layer learns at this multiple of the next one's rate (Clark et al., ELECTRA, 2020)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """How strongly weights are pulled towards zero; biases and norms are not."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """The momentum of SGD."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """The learning rate after the warm-up: a cosine to zero, or as it is."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from zero, over at least ten of them; 0 = no warm-up."""
    clip_norm: float = Field(default=0.0, ge=0)
    """The largest gradient norm; 0 = unlimited."""
    ema: bool = False
    """Keep the exponential moving average of the weights as the final model."""
    keep_start: float = Field(default=0.0, ge=0.0, lt=1.0)
    """The share of the starting weights in the final ones (WiSE-FT: Wortsman et al., "Robust fine-tuning of zero-shot
    models", 2022). Models on the straight line between two are good only if both ends are, so what begins at random,
    such as a head without `head_start` "logistic", keeps what it has learnt."""
    members: int = Field(default=1, ge=1, le=100)
    """The number of trainings whose weights are averaged. They start alike and see different batches and crops
    (Wortsman et al., "Model soups", 2022). Training takes that many times as long; predicting takes no longer."""
    batchnorm: Literal["plain", "refreshed", "frozen"] = "plain"
    """Statistics of BatchNorm. "plain": as the layer has it. "refreshed": re-estimated on training images at the end,
    which averaged weights need. "frozen": the backbone's are taken from training images before the first step, with the
    function left as it is, and kept; those of layers that a method or a neck adds are learnt and refreshed."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """"auto": bf16 autocast where the processor computes in it, else fp32; a training of minutes tries which one is
    faster. Decided once per run."""
    compile: Literal["auto"] | bool = "auto"
    """Whether torch.compile prepares the network, which takes a minute. "auto": a long training tries if that pays.
    Nothing else of a run changes but the last digits."""
    validate_epochs: bool = True
    """Score the validation split after each epoch. The score decides nothing and is computed at the end in any case. If
    the split is as large as the training split, scoring takes as long as learning."""
    checkpoint_steps: int = Field(default=0, ge=0, lt=2**31)
    """Save after this number of steps; 0 = after each epoch."""

    @property
    def num_frozen(self) -> int:
        """`freeze_stages` where it is a number."""
        assert self.freeze_stages != "all"
        return self.freeze_stages

    def num_epochs(self, steps_per_epoch: int) -> int:
        """`epochs` as a number."""
        enough = min(_MOST_EPOCHS, math.ceil(_LEAST_STEPS / steps_per_epoch))
        return max(_EPOCHS, enough) if self.epochs == "auto" else self.epochs


class Recipe(_Section):
    """All that decides a result."""

    protocol: Literal["holdout", "crossfit", "refit"] = "holdout"
    """Which images calibrate verdicts: those of a validation split ("holdout"), all training images, each answered by a
    model that has not learnt it ("crossfit"), or none ("refit")."""
    folds: int = Field(default=5, ge=2, le=1_000)
    """Into how many folds "crossfit" divides the training images."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides all that is random: splits, new weights, the order of images, crops."""
    images: Images = Images()
    backbone: Backbone = Backbone()
    neck: Choice = Choice(name=NONE)
    """From the feature map to the embedding; "none": the backbone's own pooling."""
    method: Choice = Choice(name="transfer")
    head: Choice = Choice(name="linear")
    loss: Choice = Choice(name="cross_entropy")
    auxiliary: Choice = Choice(name=NONE)
    """A further loss, which compares the images of a batch with each other; "none" leaves it out."""
    labels: Labels = Labels()
    augment: Augment = Augment()
    train: Train = Train()

    @classmethod
    def parse(cls, values: dict[str, Any], *, source: str) -> Self:
        """Check `values`. Raises RecipeError with the wrong key, its value and the nearest right one."""
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            told = _explained(error, cls, source)
            raise RecipeError(told.problem, other_version(source) or told.hint) from None

    def with_overrides(self, overrides: Iterable[str], *, source: str = "--set") -> Self:
        """Apply `key=value` overrides such as `train.epochs=3`; values are TOML, bare words are strings.

        A new name for a piece (`method.name=…`) drops the options of the old one.
        """
        values = self.model_dump(exclude_none=True)
        for text in sorted(overrides, key=lambda text: not text.partition("=")[0].strip().endswith(".name")):
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                raise RecipeError(
                    f"{source} {text!r} is not of the form key=value", "For example: --set train.epochs=3"
                )
            *sections, last = key.strip().split(".")
            place = values
            for section in sections:
                place = place.setdefault(section, {})
                if not isinstance(place, dict):
                    raise RecipeError(f"{source} {text!r}: {section!r} is a value, not a section")
            if isinstance(place.get(last), dict):
                known = ALLOWED if key.strip() == "backbone.options" else place[last]
                raise RecipeError(
                    f"{source} {text!r}: {last!r} is a section, not a value", f"Set one of: {', '.join(known)}."
                )
            change: dict[str, Any] = {last: _toml_value(value.strip())}
            for section in reversed(sections):
                change = {section: change}
            values = _merged(values, change)
        return type(self).parse(values, source=source)

    def changed(self, backbone: str | None, weights: str | None, overrides: Iterable[str]) -> Self:
        """The recipe with another backbone or other weights, and then with overrides; None leaves what there is."""
        named = {key: value for key, value in (("name", backbone), ("weights", weights)) if value is not None}
        recipe = self.model_copy(update={"backbone": self.backbone.model_copy(update=named)}) if named else self
        return recipe.with_overrides(overrides)

    def changes(self, other: Self) -> dict[str, tuple[Any, Any]]:
        """What is different in another recipe: {"train.epochs": (20, 3)}."""
        own, its = _flat(self.model_dump()), _flat(other.model_dump())
        keys = sorted(own.keys() | its.keys())
        return {key: (own.get(key), its.get(key)) for key in keys if own.get(key) != its.get(key)}

    def to_toml(self) -> str:
        """The recipe as TOML, every default written out: running it again repeats the run."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


_PIECES = [name for name, info in Recipe.model_fields.items() if info.annotation is Choice]


def recipe_names() -> list[str]:
    """The recipes that come with Fieldmark."""
    folder = resources.files("fieldmark.core") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def about_recipe(name: str) -> str:
    """What a shipped recipe does, in a line: the first line of its file."""
    return _shipped(name).partition("\n")[0].removeprefix("# ").removesuffix(".")


def _shipped(name: str) -> str:
    return (resources.files("fieldmark.core") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def load_recipe(name_or_file: str) -> Recipe:
    """A shipped recipe by name, or one from a TOML file.

    With `base = "finetune"`, a file gives only what differs from that recipe.
    """
    path = Path(name_or_file)
    if name_or_file in recipe_names():
        text = _shipped(name_or_file)
    elif path.suffix == ".toml":
        try:
            text = read_regular(path, most=_MOST).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            raise RecipeError(f"Cannot read the recipe {path}: {reason(error)}") from None
    else:
        hint = f"{nearest(name_or_file.lower(), recipe_names())} `fieldmark recipes` lists them."
        raise RecipeError(f"There is no recipe {name_or_file!r}", hint)
    try:
        values = parse_toml(text)
    except ValueError as error:
        raise RecipeError(f"{name_or_file} is not valid TOML: {error}") from None
    base = values.pop("base", None)
    if base is None:
        return Recipe.parse(values, source=name_or_file)
    if base not in recipe_names():
        hint = nearest(str(base), recipe_names())
        raise RecipeError(f"{name_or_file}: base = {brief(base)} is not a shipped recipe", hint)
    whole = load_recipe(base).model_dump(exclude_none=True)
    # options of a piece that has no other name are those of the base's
    values |= {key: {"name": whole[key]["name"], **values[key]} for key in _PIECES if isinstance(values.get(key), dict)}
    Recipe.parse(values, source=name_or_file)  # mistakes are reported for this file, not for its base
    return Recipe.parse(_merged(whole, values), source=name_or_file)


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes`, section by section; a section that gets another name is another piece, which keeps none
    of the options of the one before."""
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        if not (isinstance(change, Mapping) and isinstance(old, Mapping)):
            merged[key] = change
        elif key in _PIECES and change.get("name", old.get("name")) != old.get("name"):
            merged[key] = dict(change)
        else:
            merged[key] = _merged(old, change)
    return merged


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"epochs": 3}} → {"train.epochs": 3}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _toml_value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def _explained(error: pydantic.ValidationError, model: type[BaseModel], source: str) -> RecipeError:
    """The first problem in the user's words."""
    problems = error.errors()
    first = problems[0]
    section, key = _place(first["loc"], model)
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        if first["loc"][:-1] == ("backbone", "options"):
            hint = f"{nearest(name, ALLOWED, listed=len(ALLOWED))} Other arguments of timm are not passed on."
            return RecipeError(f"{source}: {key} is not an option of backbones", hint)
        homes = [f"{home}.{name}" for home, info in model.model_fields.items() if name in _keys(info.annotation)]
        hint = f"Did you mean {homes[0]!r}?" if homes else nearest(name, section.model_fields)
        return RecipeError(f"{source}: there is no key {key!r}", hint)
    if first["type"] == "model_type":
        hint = f"Expected a section with keys, [{key}]."
        return RecipeError(f"{source}: {key} = {brief(first['input'])} is a value", hint)
    # one value has several problems where it may be of several types
    said = (problem["msg"] for problem in problems if _place(problem["loc"], model)[1] == key)
    reasons = dict.fromkeys(text.replace("valid tuple", "list in brackets").replace("tuple", "list") for text in said)
    first_reason, *others = reasons
    told = ", or ".join([first_reason, *(text.removeprefix("Input should be ") for text in others)])
    return RecipeError(f"{source}: {key} = {brief(first['input'])} is not allowed", f"{told}.")


def _keys(annotation: Any) -> Iterable[str]:
    """The keys of a section, none of a value."""
    return annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, BaseModel) else ()


def _place(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[type[BaseModel], str]:
    """The section that a problem is in, and its key as the user writes it, without pydantic's names of types."""
    for depth, part in enumerate(loc):
        annotation = model.model_fields[str(part)].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            named = depth + 2 if part == "options" else depth + 1
            return model, ".".join(str(name) for name in loc[:named])
        model = annotation
    return model, ".".join(str(name) for name in loc)
