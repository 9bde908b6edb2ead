"""Do two commits train to the same weights, bit for bit? For a change that must not change a number.

    python benchmarks/golden_hashes.py HEAD~1      # the working tree against that commit, on this machine

Each tree draws a small field guide with its own code and trains a dozen short recipes on it, in a process of its own;
the SHA-256 of each `bundle/model.safetensors` is compared. Two CPU cores need about a minute for each tree. The golden
tests allow 1e-3, since processors round differently; here both trees run on one machine, so nothing may differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

COMMON = """
seed = 3
images = {size = 64}
backbone = {name = "test_resnet", weights = "none"}
"""
STEPS = 'epochs = 2, batch_size = 12, lr = 1e-3, head_lr = 1e-2, precision = "fp32"'
TRAININGS = {
    "everything": f"""
        protocol = "refit"
        method = {{name = "transfer", dropout = 0.2}}
        loss = {{name = "cross_entropy", label_smoothing = 0.1}}
        augment = {{color = 0.2, erasing = 0.5, trivial = true, mix = "both"}}
        train = {{{STEPS}, head_epochs = 1, layer_decay = 0.8, weight_decay = 0.05, batchnorm = "frozen", ema = true,
            clip_norm = 5.0}}""",
    "plain": f"""
        protocol = "refit"
        augment = {{crop = false}}
        train = {{{STEPS}, optimizer = "sgd", schedule = "constant", warmup = 0.0}}""",
    "probe": """
        train = {solver = "logistic"}""",
    "crossfit": f"""
        protocol = "crossfit"
        folds = 2
        images = {{size = 64, mirror = true}}
        train = {{{STEPS}, head_start = "logistic", keep_start = 0.3, batchnorm = "refreshed"}}""",
    "soup": f"""
        auxiliary = {{name = "supcon"}}
        train = {{{STEPS}, members = 2, sampling = "class_batches"}}""",
    "pose": f"""
        augment = {{align = 0.5, warp = 0.5, swap = 0.5, background = 0.5}}
        train = {{{STEPS}}}""",
    "attributes": f"""
        labels = {{attributes = ["crown patch"]}}
        train = {{{STEPS}, sampling = "balanced"}}""",
    "bilinear_attention": f"""
        method = {{name = "bilinear_attention", maps = 4, refine = true}}
        augment = {{mix = "snapmix"}}
        train = {{{STEPS}}}""",
    "part_discovery": f"""
        method = {{name = "part_discovery", parts = 3, prior = "variation"}}
        head = {{name = "cosine"}}
        train = {{{STEPS}}}""",
    "part_selection": f"""
        neck = {{name = "isqrt_cov"}}
        method = {{name = "part_selection", width = 64}}
        train = {{{STEPS}}}""",
    "progressive_jigsaw": f"""
        neck = {{name = "attention"}}
        head = {{name = "arcface"}}
        method = {{name = "progressive_jigsaw", width = 64}}
        train = {{{STEPS}}}""",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("revision", nargs="?", default="HEAD", help="what the working tree is compared with")
    arguments.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.train:
        print(json.dumps(_trained(given.train)))
        return
    here = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as scratch:
        there = Path(scratch) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", there, given.revision], cwd=here, check=True)
        try:
            before, after = (_hashes(tree, Path(scratch) / name) for tree, name in ((there, "before"), (here, "after")))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", there], cwd=here, check=True)
    for name in TRAININGS:
        print(
            f"{'same   ' if before[name] == after[name] else 'DIFFERS'}  {name}  {before[name][:12]} {after[name][:12]}"
        )
    if before != after:
        raise SystemExit(1)


def _hashes(tree: Path, work: Path) -> dict[str, str]:
    """Of the weights that the code in this tree trains."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "FIELDMARK_CACHE": str(work / "cache")}
    command = [sys.executable, "-W", "ignore", __file__, "--train", str(work)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def _trained(work: Path) -> dict[str, str]:
    import fieldmark

    data = fieldmark.draw(work / "guide", species=3, images_per_species=16, size=64, kind="attributes")
    hashes = {}
    for name, changes in TRAININGS.items():
        recipe = work / f"{name}.toml"
        own = {line.split("=")[0].strip() for line in changes.splitlines()}
        common = [line for line in COMMON.splitlines() if line.split("=")[0].strip() not in own]
        recipe.write_text("\n".join([*common, *(line.strip() for line in changes.splitlines())]).replace(",\n", ", "))
        run = fieldmark.train(data, str(recipe), out=work / name)
        hashes[name] = hashlib.sha256((run.folder / "bundle" / "model.safetensors").read_bytes()).hexdigest()
    return hashes


if __name__ == "__main__":
    main()
