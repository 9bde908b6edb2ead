"""A recipe is checked before any data is read, and written out it repeats itself."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Images, Recipe, about_recipe, load_recipe, recipe_names
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.model.necks.neck import NECKS


def set_to(*overrides: str) -> Recipe:
    return Recipe().with_overrides(overrides)


def written_and_read(recipe: Recipe) -> Recipe:
    return Recipe.parse(tomllib.loads(recipe.to_toml()), source="recipe.toml")


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes(name: str) -> None:
    recipe = load_recipe(name)
    assert written_and_read(recipe) == recipe
    resolved = resolve_recipe(name, weights=None if recipe.backbone.weights == "fieldguide" else "none")
    assert written_and_read(resolved) == resolved


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_open_with_what_they_do_and_their_command(name: str) -> None:
    import fieldmark

    text = (Path(fieldmark.__file__).parent / "core" / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    first, second = text.splitlines()[:2]
    assert first == f"# {about_recipe(name)}."
    assert second.startswith("# fieldmark ")
    assert f"--recipe {name}" in second


def test_the_named_recipes_are_there() -> None:
    assert {"demo", "finetune", "probe", "walkthrough"} <= set(recipe_names())


@given(
    st.integers(16, 2048),
    st.floats(0.21, 2.0),
    st.one_of(st.booleans(), st.just("auto")),
    st.fixed_dictionaries(
        {},
        optional={
            "depth": st.integers(1, 64),
            "depths": st.lists(st.integers(1, 64), max_size=4),
            "drop_rate": st.floats(0, 0.9),
            "class_token": st.booleans(),
            "global_pool": st.sampled_from(["", "avg", "token"]),
        },
    ),
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda key: key != "name"),
        st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    ),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_what_is_written_out_repeats_itself(
    size: int, scale: float, flip: bool | str, options: dict[str, Any], further: dict[str, Any], mean: list[float]
) -> None:
    recipe = Recipe.parse(
        {
            "images": {"size": size, "train_scale": scale},
            "augment": {"flip": flip},
            "backbone": {"options": options, "mean": mean},
            "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
            "method": {"name": "other", **further},
        },
        source="test",
    )
    assert written_and_read(recipe) == recipe


@given(st.integers(16, 2048), st.floats(0.21, 2.0))
def test_training_size(size: int, scale: float) -> None:
    images = Images(size=size, train_scale=scale)
    if scale == 1:
        assert images.train_size == size
    else:
        assert images.train_size % 32 == 0
        assert images.train_size >= 32
        assert abs(images.train_size - size * scale) <= 16 or images.train_size == 32


def test_training_size_by_example() -> None:
    assert Images(size=224).train_size == 224
    assert Images(size=100).train_size == 100  # as asked for
    assert Images(size=224, train_scale=0.75).train_size == 160  # 168 is nearer to 160 than to 192
    assert Images(size=448, train_scale=0.5).train_size == 224
    assert Images(size=16, train_scale=0.5).train_size == 32


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("train.epochs=3", "train", "epochs", 3),
        (" train.epochs = 3 ", "train", "epochs", 3),
        ("train.lr=1e-2", "train", "lr", 0.01),
        ("train.lr=1", "train", "lr", 1.0),
        ("train.ema=true", "train", "ema", True),
        ("train.optimizer=sgd", "train", "optimizer", "sgd"),
        ('train.optimizer="sgd"', "train", "optimizer", "sgd"),
        ("augment.flip=false", "augment", "flip", False),
        ("augment.flip=auto", "augment", "flip", "auto"),
        ("backbone.weights=/a b/c=d.safetensors", "backbone", "weights", "/a b/c=d.safetensors"),
        ("backbone.mean=[0.5, 0.5, 0.5]", "backbone", "mean", (0.5, 0.5, 0.5)),
        ("backbone.options.depth=2", "backbone", "options", {"depth": 2}),
        ("loss.label_smoothing=0.2", "loss", "options", {"label_smoothing": 0.2}),
    ],
)
def test_overrides(override: str, section: str, key: str, value: Any) -> None:
    changed = set_to(override)
    assert getattr(getattr(changed, section), key) == value
    rest = {name: part for name, part in changed if name != section}
    assert rest == {name: part for name, part in Recipe() if name != section}


def test_the_last_override_counts() -> None:
    assert set_to("seed=1", "train.epochs=5", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "--set 'train.epochs' is not of the form key=value. For example: --set train.epochs=3"),
        ("=3", "--set '=3' is not of the form key=value. For example: --set train.epochs=3"),
        ("train.epoch=3", "--set: there is no key 'train.epoch'. Did you mean 'epochs'?"),
        ("trian.epochs=3", "--set: there is no key 'trian'. Did you mean 'train'?"),
        ("sede=3", "--set: there is no key 'sede'. Did you mean 'seed'?"),
        ("method=arc", "--set 'method=arc': 'method' is a section, not a value. Set one of: name."),
        ("seed.x=3", "--set 'seed.x=3': 'seed' is a value, not a section"),
        ("train.head_epochs=", "--set: train.head_epochs = '' is not allowed. Input should be a valid integer."),
        ("train.members=many", "--set: train.members = 'many' is not allowed. Input should be a valid integer."),
        ("train.epochs=2.5", "--set: train.epochs = 2.5 is not allowed. Input should be 'auto', or a valid integer."),
        ("train.head_epochs=true", "--set: train.head_epochs = True is not allowed. Input should be a valid integer."),
        ("train.ema=1", "--set: train.ema = 1 is not allowed. Input should be a valid boolean."),
        ("method.name=3", "--set: method.name = 3 is not allowed. Input should be a valid string."),
        ("train.lr=nan", "--set: train.lr = nan is not allowed. Input should be a finite number."),
        ("train.lr=0", "--set: train.lr = 0 is not allowed. Input should be greater than 0."),
        ("train.members=0", "--set: train.members = 0 is not allowed. Input should be greater than or equal to 1."),
        (
            "train.batch_size=1",
            "--set: train.batch_size = 1 is not allowed. Input should be greater than or equal to 2.",
        ),
        ("train.warmup=1", "--set: train.warmup = 1 is not allowed. Input should be less than 1."),
        ("images.size=8", "--set: images.size = 8 is not allowed. Input should be greater than or equal to 16."),
        (
            "protocol=holdot",
            "--set: protocol = 'holdot' is not allowed. Input should be 'holdout', 'crossfit' or 'refit'.",
        ),
        (
            "augment.flip=maybe",
            "--set: augment.flip = 'maybe' is not allowed. Input should be a valid boolean, or 'auto'.",
        ),
        (
            "labels.attributes=crown",
            "--set: labels.attributes = 'crown' is not allowed. Input should be a list in brackets.",
        ),
        (
            "backbone.name=hf-hub:timm/resnet18.a1_in1k",
            "--set: backbone.name = 'hf-hub:timm/resnet18.a1_in1k' is not allowed. "
            "Expected the plain name of a timm model, such as 'resnet50', or up to four with + between them: no "
            "address and no path.",
        ),
        (
            "backbone.options.drop_rate=2.0",
            "--set: backbone.options.drop_rate = 2.0 is not allowed. Input should be less than 1.",
        ),
        (
            "backbone.options.dept=3",
            "--set: backbone.options.dept is not an option of backbones. Did you mean 'depth'? Other arguments of timm "
            "are not passed on.",
        ),
        ("seed=4294967296", "--set: seed = 4294967296 is not allowed. Input should be less than 4294967296."),
        ("backbone.mean=[0.5, 0.5, 'x']", "--set: backbone.mean = 'x' is not allowed. Input should be a valid number."),
    ],
)
def test_wrong_overrides(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        set_to(override)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": ["loss.label_smothing=0.1"]}, "no option 'label_smothing'. Did you mean 'label_smoothing'?"),
        ({"overrides": ["method.name=transfr"]}, "There is no method 'transfr'. Did you mean 'transfer'?"),
        ({"overrides": ["train.optimizer=adamv"]}, "There is no optimizer 'adamv'. Did you mean 'adam"),
        ({"overrides": ["augment.mix=cutmixx"]}, "There is no mix 'cutmixx'. Did you mean 'cutmix'?"),
        ({"backbone": "mobilenetv2_10"}, "There is no backbone 'mobilenetv2_10' in timm. Did you mean 'mob"),
        (
            {"recipe": "bilinear_attention", "overrides": ["train.head_start=logistic"]},
            "train.head_start = 'logistic' fits a head to fixed features, but 'bilinear_attention' must learn its own",
        ),
        ({"recipe": "walkthru"}, "There is no recipe 'walkthru'. Did you mean 'walkthrough'?"),
    ],
)
def test_names_are_checked_before_any_data_is_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve_recipe(**{"weights": "none"} | changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_neck_has_no_place_in_a_method_that_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NECKS._things, "corners", lambda channels: None)
    with pytest.raises(RecipeError, match="pools the feature map itself, so the neck 'corners' would have no effect"):
        resolve_recipe("bilinear_attention", weights="none", overrides=["neck.name=corners"])


def test_resolving_writes_out_the_options_of_the_pieces() -> None:
    resolved = resolve_recipe(Recipe(), weights="none", overrides=["loss.label_smoothing=0.2"])
    assert resolved.method.options == {"dropout": 0.0}
    assert resolved.loss.options == {"label_smoothing": 0.2, "logit_adjustment": 0.0}
    assert (resolved.neck.name, resolved.head.name) == ("none", "linear")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepoch = 3", "there is no key 'train.epoch'. Did you mean 'epochs'?"),
        ("images = 3", "images = 3 is a value. Expected a section with keys, [images]."),
        ("[[train]]\nepochs = 3", "train = [{'epochs': 3}] is a value. Expected a section with keys, [train]."),
        ("[images]\ncrop = 0.0", "images.crop = 0.0 is not allowed. Input should be greater than 0.1."),
    ],
)
def test_a_file_with_a_mistake(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    assert str(caught.value) == f"{path}: {message}"


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(RecipeError, match=r"Cannot read the recipe .*mine\.toml: .*No such file"):
        load_recipe(str(path))
    path.write_text("[train\n")
    with pytest.raises(RecipeError, match=r"mine\.toml is not valid TOML: .*line 1"):
        load_recipe(str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match=r"Cannot read the recipe .*mine\.toml"):
        load_recipe(str(path))


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seed = 4\n[method]\nname = 'transfer'\ndropout = 0.2\n")
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert (recipe.seed, recipe.method.options, recipe.train) == (4, {"dropout": 0.2}, Recipe().train)


def test_a_key_that_lacks_its_section_is_found_there() -> None:
    with pytest.raises(RecipeError, match=r"Did you mean 'train\.epochs'"):
        Recipe().with_overrides(["epochs=3"])


def test_a_recipe_builds_on_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "finetune"\n[train]\nepochs = 7\n[loss]\nname = "other"\n')
    mine, base = load_recipe(str(path)), load_recipe("finetune")
    assert mine.train == base.train.model_copy(update={"epochs": 7})
    assert mine.images == base.images
    assert mine.loss.pair == ("other", {})
    path.write_text('base = "finetune"\n[loss]\nlabel_smoothing = 0.2\n[method]\ndropout = 0.1\n')
    mine = load_recipe(str(path))
    assert mine.loss.pair == ("cross_entropy", {"label_smoothing": 0.2})
    assert mine.method.pair == ("transfer", {"dropout": 0.1})


def test_a_recipe_builds_on_shipped_ones_only(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "fintune"\n')
    with pytest.raises(RecipeError, match="finetune"):
        load_recipe(str(path))


def test_another_piece_keeps_no_options_of_the_one_before() -> None:
    recipe = set_to("method.dropout=0.1").with_overrides(["method.width=3", "method.name=other"])
    assert recipe.method.pair == ("other", {"width": 3})
    assert set_to("method.dropout=0.1").with_overrides(["method.name=transfer"]).method.options == {"dropout": 0.1}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.head_start=logistic", "head.name=arcface"], "fits a linear head, but the method 'transfer' with the "),
        (["train.head_start=logistic", "neck.name=isqrt_cov"], "the neck 'isqrt_cov' changes them by layers that"),
        (["train.solver=logistic", "head.name=cosine"], "the head 'cosine' has none. Use method.name = 'tr"),
        (
            ["train.solver=logistic", "augment.mix=mixup"],
            "does not augment images, so it cannot be combined with augment.mix",
        ),
        (["train.solver=logistic", "train.members=3"], "train.members = 3 would all be equal. Set train.members = 1"),
        (["train.solver=logistic", "neck.name=isqrt_cov"], "the neck 'isqrt_cov' would learn nothing. Set neck.name"),
        (["train.solver=logistic", "auxiliary.name=supcon"], "the auxiliary 'supcon' would learn nothing"),
        (["augment.mix=cutmix", "auxiliary.name=supcon"], "augment.mix = 'cutmix' makes images of two classes. Set "),
        (
            ["train.sampling=class_batches", "train.images_per_class=5"],
            "into two or more classes of train.images_per_class = 5",
        ),
        (["train.sampling=class_batches", "train.batch_size=4"], "Set train.batch_size to a multiple, such as 8."),
        (["train.sampling=balanced", "loss.logit_adjustment=1.0"], "would both compensate for rare classes. Set tr"),
        (["neck.reduce=3"], "There is no neck 'none'. Known: attention, isqrt_cov."),
        (["auxiliary.name=supcom"], "There is no auxiliary 'supcom'. Did you mean 'supcon'?"),
    ],
)
def test_pieces_that_do_not_go_together(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve_recipe(Recipe(), weights="none", overrides=overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_changes_name_every_key_that_differs() -> None:
    recipe = Recipe()
    other = recipe.with_overrides(["train.epochs=3", "method.dropout=0.5"])
    assert recipe.changes(other) == {"method.dropout": (None, 0.5), "train.epochs": (20, 3)}
    assert other.changes(other) == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_recipe_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.toml")
    with pytest.raises(RecipeError, match=r"Cannot read the recipe .*mine\.toml: it is not a regular file"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_options_of_a_backbone_are_listed() -> None:
    with pytest.raises(RecipeError, match=r"is a section, not a value\. Set one of: drop_rate, "):
        set_to("backbone.options={depth=true}")


@given(st.integers(1, 5_000))
def test_few_images_are_seen_more_often(steps_per_epoch: int) -> None:
    auto = set_to("train.epochs=auto").train
    epochs = auto.num_epochs(steps_per_epoch)
    assert 20 <= epochs <= 200
    assert epochs == 200 or epochs * steps_per_epoch >= 600
    assert epochs == 20 or (epochs - 1) * steps_per_epoch < 600, "no more than it takes"
    assert set_to("train.epochs=3").train.num_epochs(steps_per_epoch) == 3
