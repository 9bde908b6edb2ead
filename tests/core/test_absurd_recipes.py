"""Recipes that make no sense are refused in one line, before anything large is made, fetched or opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fieldmark.core.errors import RecipeError, WeightsError
from fieldmark.learning.fitting.combinations import rehearse
from fieldmark.learning.fitting.resolve import resolve_recipe
from support.watching import watched

SMALL = "[backbone]\nname = 'test_resnet'\nweights = 'none'\n"
VIT = "[backbone]\nname = 'vit_tiny_patch16_224'\nweights = 'none'\n"
ABSURD = [
    "seed = 4294967296",
    "seed = -1",
    f"seed = {'9' * 5000}",
    f"seed = 0x{'f' * 5000}",
    "seed = 1e400",
    f"seed = {'[' * 5000}",
    f"seed = {'[' * 500}{']' * 500}",
    "seed = 1\nseed = 2",
    "seed = 1979-05-27",
    f"{'a.' * 3000}b = 1",
    f"x = '{'y' * 900_000}'",
    "[" * 100_000,
    "\x00",
    "base = ['finetune']",
    "base = 'finetune'\nbase.x = 1",
    "base = '../../etc/passwd'",
    "folds = 1000000000",
    "folds = 1",
    "protocol = 'holdout\\n'",
    "[images]\nsize = 1000000000",
    "[images]\nsize = 0",
    "[images]\nsize = -224",
    "[images]\ntrain_scale = inf",
    "[images]\ncache_gb = 1e300",
    "[train]\nepochs = -1",
    "[train]\nepochs = 1000000000000",
    "[train]\nbatch_size = 0",
    "[train]\nbatch_size = 1000000000",
    "[train]\nlr = nan",
    "[train]\nlr = -1.0",
    "[train]\nlr = 'fast'",
    "[train]\nweight_decay = -inf",
    "[train]\nfreeze_stages = 99999",
    "[train]\nmembers = 101",
    "[train]\nimages_per_class = 70000",
    "[train]\ncheckpoint_steps = 9223372036854775807",
    "[train]\noptimizer = 'os.system'",
    "[augment]\nmix = '__import__'",
    "[augment]\nmix_alpha = 1e300",
    "[labels]\nattribute_weight = 1e300",
    "[labels]\norder = [[[]]]",
    "[backbone]\nname = 'hf-hub:timm/resnet18.a1_in1k'",
    "[backbone]\nname = 'local-dir:/etc'",
    "[backbone]\nname = 'https://example.org/model'",
    "[backbone]\nname = '../resnet18'",
    "[backbone]\nname = 'resnet18\\n'",
    f"[backbone]\nname = '{'r' * 100_000}'",
    "[backbone]\nweights = '/dev/zero'",
    "[backbone]\nweights = 'hf-hub:timm/resnet18.a1_in1k'",
    "[backbone]\nmean = [1e308, 0.0, 0.0]",
    "[backbone]\nstd = [0.0, 1.0, 1.0]",
    "[backbone.options.pretrained_cfg]\nurl = 'http://127.0.0.1:9/'\n",
    "[backbone.options.pretrained_cfg_overlay]\nfile = '/etc/passwd'\n",
    "[backbone.options]\ncheckpoint_path = '/etc/passwd'\n",
    "[backbone.options]\ncache_dir = '/tmp/elsewhere'\n",
    "[backbone.options]\npretrained = true\n",
    "[backbone.options]\npruned = true\n",
    "[backbone.options]\nnum_classes = 1000000000\n",
    VIT + "options = {embed_dim = 8192, depth = 64, num_heads = 1}",
    VIT + "options = {embed_dim = 100, num_heads = 3}",
    VIT + "options = {patch_size = 4096}",
    SMALL + "options = {channels = [8192, 8192, 8192, 8192], layers = [64, 64, 64, 64]}",
    SMALL + "[method]\nname = 'bilinear_attention'\nmaps = 2147483647",
    SMALL + "[method]\nname = 'bilinear_attention'\nmaps = 9223372036854775807",
    SMALL + "[method]\nname = 'bilinear_attention'\nmaps = -1",
    SMALL + "[method]\nname = 'part_selection'\nwidth = 1000000000",
    SMALL + "[method]\nname = 'part_discovery'\nparts = 2147483647",
    SMALL + "[method]\nname = 'transfer'\ndropout = nan",
    SMALL + "[neck]\nname = 'isqrt_cov'\niterations = -5",
    SMALL + "[head]\nname = 'arcface'\nscale = inf",
    SMALL + "[auxiliary]\nname = 'supcon'\ntemperature = 0.0",
]


def refused(path: Path) -> str:
    """The line that a recipe in a file is refused with."""
    with watched(path.parent) as seen, pytest.raises((RecipeError, WeightsError)) as caught:
        rehearse(resolve_recipe(str(path)))
    assert seen == []
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1200
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=f"{nth}: {text[:40]!r}", marks=[] if nth % 3 == 0 else pytest.mark.slow)
        for nth, text in enumerate(ABSURD)
    ],
)
def test_an_absurd_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert refused(path)


def test_what_is_no_file_of_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    os.mkfifo(path)
    assert refused(path) == f"Cannot read the recipe {path}: it is not a regular file"
    path.unlink()
    path.mkdir()
    assert refused(path) == f"Cannot read the recipe {path}: it is not a regular file"
    path.rmdir()
    with path.open("wb") as file:
        file.truncate(2**30)
    assert refused(path) == f"Cannot read the recipe {path}: it has 1,073,741,824 bytes, where 1,048,576 are the most"
