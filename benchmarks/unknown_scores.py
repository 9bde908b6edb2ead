"""Which score tells unknown pictures from known ones? On out-of-fold answers for the training split alone.

usage: unknown_scores.py features CUB_FOLDER FLOWERS_FOLDER WEIGHTS OUT.npz
       unknown_scores.py compare OUT.npz

Frozen MobileNetV2 at 160 px, a logistic regression (C = 0.003) in three folds on forty species. Unknown are the last
species of each of the first ten genera with two or more, flowers, and crops beside the birds.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from scipy.special import log_softmax, logsumexp
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from verdicts import beside, outputs_of

from fieldmark import read
from fieldmark.answering.engine import TorchEngine
from fieldmark.answering.views import evaluation_square, short_side
from fieldmark.core.recipe import Backbone, Images, Recipe
from fieldmark.data.decode import decode
from fieldmark.data.task import Task
from fieldmark.evaluation.scaling import fit_temperature
from fieldmark.evaluation.unknown import class_means, fit_familiarity, nearness
from fieldmark.model.build import build_model


def features(cub, flowers, weights, out):
    """Embeddings of the training split, of crops beside its birds, and of every eighth flower."""
    images = Images(size=160)
    model = build_model(Recipe(images=images, backbone=Backbone(name="mobilenetv2_100", weights=weights)), Task(2))
    view, side = evaluation_square(images, model.backbone.normalization.interpolation), short_side(images)
    engine = TorchEngine(model)

    def embedded(pictures):
        return outputs_of(engine, view, pictures).embedding

    catalog = read(cub)
    rows = catalog.rows("train")
    crops = (beside(decode(catalog.file(row)).pixels, catalog.boxes[row]) for row in rows)
    files = sorted(Path(flowers, "jpg").glob("*.jpg"))[::8]
    np.savez(
        out,
        E=embedded(decode(catalog.file(row), short_side=side).pixels for row in rows),
        B=embedded(crop for crop in crops if crop is not None),
        F=embedded(decode(file, short_side=side).pixels for file in files),
        y=catalog.labels[rows],
        classes=np.array(catalog.classes),
    )


def scores(model, embedding):
    """Every score of one fold, higher for what is known."""
    logits = model["head"].decision_function(embedding)
    probability = np.exp(log_softmax(logits / model["temperature"], axis=1)).max(axis=1)
    near = nearness(embedding, class_means(model["X"], model["t"], model["K"]))
    found = {
        "maximum softmax": np.exp(log_softmax(logits, axis=1)).max(axis=1),
        "calibrated maximum softmax": probability,
        "maximum logit": logits.max(axis=1),
        "energy": logsumexp(logits, axis=1),
        "cosine to the nearest class mean": near,
    }
    centred, means = embedding - model["X"].mean(axis=0), model["means"] - model["X"].mean(axis=0)
    for name, root in model["roots"].items():
        a, b = centred @ root, means @ root
        found[name] = -((a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)).min(axis=1)
    whole = ((centred @ model["whole"]) ** 2).sum(axis=1)
    found["relative Mahalanobis"] = found["Mahalanobis"] + whole
    return found, probability, near


def fold(X, t, K):
    """What a fold knows."""
    means = np.stack([X[t == k].mean(axis=0) for k in range(K)])
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=200)).fit(X, t)

    def root(rest):
        values, vectors = np.linalg.eigh(ledoit_wolf(rest)[0])
        return vectors / np.sqrt(values)

    diagonal = np.diag(1 / ((X - means[t]).std(axis=0) + 1e-6))
    roots = {"Mahalanobis": root(X - means[t]), "diagonal Mahalanobis": diagonal}
    return {"X": X, "t": t, "K": K, "means": means, "head": head, "roots": roots, "whole": root(X - X.mean(axis=0))}


def compare(file):
    """AUROC of each score, mean of three folds."""
    saved = np.load(file)
    classes, y = saved["classes"], saved["y"]
    genera = [name.split()[-1] for name in classes]
    pairs = [genus for genus in dict.fromkeys(genera) if genera.count(genus) > 1][:10]
    held = [len(genera) - 1 - genera[::-1].index(genus) for genus in pairs]
    known = ~np.isin(y, held)
    X, t = saved["E"][known], np.unique(y[known], return_inverse=True)[1]
    unknown = {"species": saved["E"][~known], "flowers": saved["F"], "backgrounds": saved["B"]}
    found = {}
    for train, rest in StratifiedKFold(3, shuffle=True, random_state=0).split(X, t):
        model = fold(X[train], t[train], t.max() + 1)
        model["temperature"] = fit_temperature(model["head"].decision_function(X[rest]), t[rest]).temperature
        own, probability, near = scores(model, X[rest])
        familiarity = fit_familiarity(probability, near)
        own["the sum"] = familiarity.score(probability, near)
        for name, embedding in unknown.items():
            other, probability, near = scores(model, embedding)
            other["the sum"] = familiarity.score(probability, near)
            for score, values in own.items():
                truth = np.repeat([1, 0], [len(values), len(embedding)])
                auroc = roc_auc_score(truth, np.concatenate([values, other[score]]))
                found.setdefault(score, {}).setdefault(name, []).append(auroc)
    print("| score | " + " | ".join(unknown) + " |")
    for score, by_name in found.items():
        print(f"| {score} | " + " | ".join(f"{100 * np.mean(by_name[name]):.1f}" for name in unknown) + " |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # a probe that has all but converged says so for every fold and C
    {"features": features, "compare": compare}[sys.argv[1]](*sys.argv[2:])
