"""The network that a bundle describes, with its weights and what was enrolled since.

Shapes: K classes, D embedding.
"""

from __future__ import annotations

import torch

from fieldmark.core.errors import RecipeError, RunError
from fieldmark.evaluation.enrolment import TEMPERATURE, Gate
from fieldmark.model.backbone import Normalization
from fieldmark.model.build import build_model, has_usual_size, num_parameters
from fieldmark.model.enrolled import Enrolled
from fieldmark.model.model import Model
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.description import AGAIN

__all__ = ["enrolled_module", "load_network"]


def load_network(bundle: Bundle, device: str) -> Model:
    """The network of a bundle, ready to answer on this device.

    Raises RunError if its weights are missing or damaged, or if it needs a plug-in that is not installed.
    """
    model = _network(bundle)
    try:
        model.load_weights(bundle.weights())
    except RuntimeError as error:  # torch's own text runs over as many lines as there are layers
        raise RunError(f"The weights in {bundle.folder} do not match its model.json", AGAIN) from error
    if bundle.enrolment:
        model.enrolled = enrolled_module(bundle.enrolment.gate)
    return model.to(torch.device(device), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stub lacks it


def enrolled_module(gate: Gate) -> Enrolled:
    """What gives enrolled classes their logits, as a part of the network."""
    arrays = (gate.plda.centre, gate.plda.axes, gate.expected, gate.variance)
    return Enrolled(
        *(torch.from_numpy(one) for one in arrays), num_new=gate.num_new, temperature=TEMPERATURE, offset=gate.offset
    )


def _check_size(bundle: Bundle) -> None:
    """Raise RunError for a network that is larger than its weights, before it takes any memory."""
    assert bundle.folder is not None
    path = bundle.folder / "model.safetensors"
    parameters = num_parameters(bundle.recipe, bundle.trained.task)
    if path.is_file() and parameters > path.stat().st_size:  # each has at least a byte
        raise RunError(f"The weights in {bundle.folder} do not match its model.json", AGAIN)


def _network(bundle: Bundle) -> Model:
    """The network that a bundle describes, without its weights."""
    try:
        if not has_usual_size(bundle.recipe):
            _check_size(bundle)
        model = build_model(bundle.recipe, bundle.trained.task, load_weights=False)
    except RecipeError as error:
        for section, one in bundle.plugins.items():
            if repr(one["name"]) in error.problem:
                needed = f"{one['package']}=={one['version']}"
                raise RunError(
                    f"{bundle.folder} needs the {section} {one['name']!r} from the package {one['package']} "
                    f"{one['version']}: {error.problem}",
                    f"Install it with: pip install {needed}.",
                ) from None
        raise RunError(
            f"This version of Fieldmark cannot open {bundle.folder}: {error.problem}",
            "Use the version that wrote the bundle. If it is this one, the bundle is damaged: copy it again.",
        ) from None
    own = model.backbone.normalization
    model.backbone.normalization = Normalization(own.mean, own.std, bundle.interpolation)
    return model
