"""What labels beyond plain classes are worth on field guides: grades, a taxonomy, attributes.

usage: labels.py ordinal|taxonomy|attributes WORK [--seeds 5] [--split test] [--frozen]

Draws the guide into WORK, trains the recipe `demo` (at 96 px, attributes at 128) from its small weights,
once for each seed and loss, on so many training pictures of each class (drawn by the seed, the same for each loss),
scores a split and writes results/labels-NAME.json. Finished runs in WORK are kept. `--split val` is for choosing
options: it writes no result, and the test split has no say in it. `--frozen` leaves the network as it is and learns
linear heads only, which takes a second each; the features are kept in WORK.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from collect import RESULTS, processor

import fieldmark
from fieldmark.answering.engine import TorchEngine
from fieldmark.answering.stream import Shown, stream
from fieldmark.answering.views import evaluation_square, short_side
from fieldmark.core.reading import read_json
from fieldmark.core.storage import read_rows, write_json
from fieldmark.data.decode import decode
from fieldmark.data.task import Task
from fieldmark.evaluation.grading import quadratic_kappa
from fieldmark.evaluation.outputs import joined
from fieldmark.learning.fitting.task import task_of
from fieldmark.model.build import build_model
from fieldmark.model.losses.loss import LOSSES

COMMON = ["protocol=refit", "images.size=96", "train.precision=fp32", "augment.flip=true"]
CIRCUMSTANCES = {"habitat", "light", "pose", "sex", "occlusion"}
CASES = {
    "ordinal": {
        "guide": {"kind": "stages", "species": 12, "images_per_species": 200},
        "per_class": 20,
        "settings": ["train.epochs=20", "train.batch_size=20"],
        "losses": {"cross_entropy": [], "ordinal": ["loss.name=ordinal", "loss.sharpness=0.5"]},
    },
    "taxonomy": {
        "guide": {"kind": "species", "species": 48, "images_per_species": 60},
        "per_class": 8,
        "settings": ["train.epochs=10"],
        "losses": {"cross_entropy": [], "taxonomy": ["loss.name=taxonomy", "loss.alpha=0.2"]},
    },
    "attributes": {
        "guide": {"kind": "attributes", "species": 12, "images_per_species": 240},
        "per_class": None,
        "settings": [
            "train.epochs=24",
            "protocol=holdout",
            "images.size=128",
            "augment.min_scale=0.8",
            "labels.attribute_weight=5",
        ],
        "losses": {"attributes": []},
    },
}


def drawn(work, name):
    """The guide of a case."""
    options = CASES[name]["guide"]
    folder = Path(work, options["kind"])
    if not (folder / "guide.json").is_file():
        fieldmark.draw(folder, **options)
    return fieldmark.read(folder)


def few(catalog, split, per_class, seed):
    """Some training pictures of each class, and the split that is scored as the test split; all others are left out.

    Without a number, the guide as it is.
    """
    if per_class is None:
        return catalog
    rng, rows = np.random.default_rng([11, seed]), catalog.rows("train")
    of_class = [rng.permutation(rows[catalog.labels[rows] == k])[:per_class] for k in range(len(catalog.classes))]
    splits = np.where(catalog.splits == split, "test", np.where(catalog.splits == "train", "train", ""))
    return replace(catalog, splits=splits).select(np.sort(np.concatenate([*of_class, catalog.rows(split)])))


def trained(work, name, catalog, split, loss, seed, overrides):
    """The scores of one loss and seed: a folder. Trained and scored where that is still to do."""
    case = CASES[name]
    data = few(catalog, split, case["per_class"], seed)
    kind = name if data is catalog else f"{name}-{split}"
    out = Path(work, "-".join([kind, loss, str(seed), *overrides]).replace("/", "_"))
    settings = [*COMMON, f"seed={seed}", *case["settings"], *case["losses"][loss], *overrides]
    run = fieldmark.train(data, "demo", out=out, overrides=settings, resume=True)
    folder = run.evaluation(split if data is catalog else "test")  # of few pictures the split was made the test split
    if not (folder / "scores.json").is_file():
        fieldmark.evaluate(run.folder, data)
    return folder


def features(work, name, catalog):
    """(N, D) of the small network, as it comes along, for every picture."""
    file = Path(work, f"{name}-features.npz")
    if not file.is_file():
        recipe = fieldmark.load_recipe("demo").with_overrides(COMMON)
        model = build_model(recipe, Task(2))
        view = evaluation_square(recipe.images, model.backbone.normalization.interpolation)
        side = short_side(recipe.images)
        views = (Shown(view(decode(catalog.file(row), short_side=side).pixels)) for row in range(len(catalog)))
        answered = stream(views, lambda shown: shown, TorchEngine(model), batch_size=64)
        np.savez(file, embedding=joined([one.output for one in answered]).embedding)
    return np.load(file)["embedding"]


def linear(embedding, catalog, split, loss, per_class, seed, steps=150):
    """(N,) answers of a linear head on standardised features, and labels; AdamW, batches of 64, the last step."""
    data = few(catalog, split, per_class, seed)
    row_of = {path: row for row, path in enumerate(catalog.paths)}
    inputs = embedding[[row_of[path] for path in data.paths]]
    train, test = data.rows("train"), data.rows("test")
    inputs = (inputs - inputs[train].mean(axis=0)) / (inputs[train].std(axis=0) + 1e-6)
    x, labels, rng = torch.from_numpy(inputs), torch.from_numpy(data.labels), np.random.default_rng([12, seed])
    torch.manual_seed(seed)
    head = torch.nn.Linear(x.shape[1], len(data.classes))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=0.05)
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(train, 64))
        optimizer.zero_grad()
        loss.each(head(x[rows]), labels[rows]).mean().backward()
        optimizer.step()
    order = sorted(test, key=lambda row: data.paths[row])
    with torch.no_grad():
        return head(x[order]).argmax(dim=1).numpy(), data.labels[order]


def made(settings, catalog, overrides):
    """The loss that these settings name."""
    recipe = fieldmark.load_recipe("demo").with_overrides([*settings, *overrides])
    task = task_of(catalog, recipe, catalog.rows("train"))
    return LOSSES.get(recipe.loss.name)(task, **LOSSES.complete(*recipe.loss.pair))


def frozen(asked, case, catalog):
    """The answers of linear heads, for each loss and seed."""
    embedding = features(asked.work, asked.name, catalog)
    found = {}
    for loss, settings in case["losses"].items():
        one = made(settings, catalog, asked.set if loss != "cross_entropy" else [])
        found[loss] = [
            linear(embedding, catalog, asked.split, one, case["per_class"], seed) for seed in range(asked.seeds)
        ]
    return found


def answers(folder, catalog):
    """(N,) answers and labels, in the order of paths."""
    rows = sorted(read_rows(folder / "predictions.csv"), key=lambda row: row["path"])
    index = {name: k for k, name in enumerate(catalog.classes)}
    return np.array([index[row["predicted"]] for row in rows]), np.array([index[row["label"]] for row in rows])


def kappa(catalog, given, true, times):
    """Stages are in the order of their numbers."""
    return quadratic_kappa(given, true, times)


def distance(catalog, given, true, times):
    """Mean over all pictures."""
    return times @ catalog.taxonomy.distances(given, true) / times.sum()


def severity(catalog, given, true, times):
    """Mean over mistakes."""
    return times @ catalog.taxonomy.distances(given, true) / (times @ (given != true))


def top1(catalog, given, true, times):
    """Share that is right."""
    return times @ (given == true) / times.sum()


MEASURES = {
    "ordinal": {"quadratic_kappa": kappa, "top1": top1},
    "taxonomy": {"tree_distance": distance, "mistake_severity": severity, "top1": top1},
}


def paired(catalog, measure, base, other, replicates=2000):
    """Mean over seeds of each, and of their difference with its interval over pictures, all resampled together."""
    true = base[0][1]
    assert all((labels == true).all() for _, labels in (*base, *other))

    def mean(runs, times):
        return np.mean([measure(catalog, given, true, times) for given, _ in runs])

    rng, count = np.random.default_rng(0), len(true)
    resamples = (np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(replicates))
    drawn = [mean(other, times) - mean(base, times) for times in (t.astype(float) for t in resamples)]
    once = np.ones(count)
    low, high = np.quantile(drawn, [0.025, 0.975])
    seeds = [mean([b], once) for b in base], [mean([o], once) for o in other]
    return {
        "base": mean(base, once), "other": mean(other, once), "gain": mean(other, once) - mean(base, once),
        "low": low, "high": high, "base_by_seed": seeds[0], "other_by_seed": seeds[1],
    }  # fmt: skip


def main():
    """See above."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("name", choices=CASES)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--per-class", type=int)
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("--set", action="append", default=[], help="further settings of the second loss, for choosing")
    asked = parser.parse_args()
    case = CASES[asked.name]
    case["per_class"] = asked.per_class or case["per_class"]
    catalog = drawn(asked.work, asked.name)
    if asked.name == "attributes":
        marks = [name for name in catalog.attributes if name not in CIRCUMSTANCES]
        case["losses"]["attributes"] = ["labels.attributes=" + json.dumps(marks)]
    found = {"guide": case["guide"], "seeds": asked.seeds, "per_class": case["per_class"], "losses": case["losses"],
             "machine": {"processor": processor()}}  # fmt: skip
    if asked.frozen:
        runs = frozen(asked, case, catalog)
    else:
        folders = tuned(asked, case, catalog)
        found |= {"settings": [*COMMON, *case["settings"]]}
        if "attributes" in folders:
            found["attributes"] = [
                read_json(folder / "scores.json", dict)["attributes"] for folder in folders["attributes"]
            ]
        runs = {loss: [answers(folder, catalog) for folder in of_loss] for loss, of_loss in folders.items()}
    for name, measure in MEASURES.get(asked.name, {}).items():
        found[name] = paired(catalog, measure, *runs.values())
    for name, value in found.items():
        print(name, value)
    if asked.split == "test":
        write_json(RESULTS / f"labels-{asked.name}{'-frozen' if asked.frozen else ''}.json", found)


def tuned(asked, case, catalog):
    """The folders with the scores, for each loss and seed."""
    folders = {}
    for seed in range(asked.seeds):
        for loss in case["losses"]:
            further = asked.set if loss != "cross_entropy" else []
            folder = trained(asked.work, asked.name, catalog, asked.split, loss, seed, further)
            folders.setdefault(loss, []).append(folder)
            scores = read_json(folder / "scores.json", dict)
            figures = {k: round(v["value"], 4) for k, v in scores.items() if isinstance(v, dict) and "value" in v}
            print(loss, seed, figures, scores.get("attributes", ""), flush=True)
    return folders


if __name__ == "__main__":
    main()
