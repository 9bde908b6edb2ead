"""`Model`: a method, with heads for attributes, mirroring and enrolled classes. Recipes build it, and bundles keep it.

Shapes: B images, A attributes of V values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from torch import Tensor, nn

from fieldmark.model.attributes import AttributeHeads
from fieldmark.model.auxiliaries.auxiliary import Auxiliary
from fieldmark.model.backbone import Backbone
from fieldmark.model.batch import Batch
from fieldmark.model.enrolled import Enrolled
from fieldmark.model.method import Method, Prediction

__all__ = ["Model"]

_ATTRIBUTES = "attributes."


@final
class Model(nn.Module):
    """A method with attribute heads, mirroring and enrolled classes. The method itself knows of none of them."""

    def __init__(self, method: Method, attributes: AttributeHeads | None = None, *, mirrored: bool = False) -> None:
        """With `mirrored`, the answer is the mean over an image and its mirror image."""
        super().__init__()
        self.method = method
        self.attributes = attributes
        self.mirrored = mirrored
        self.enrolled: Enrolled | None = None
        """Classes that were enrolled after training; no part of `weights`, since a bundle keeps them apart."""

    @property
    def backbone(self) -> Backbone:
        return self.method.backbone

    def forward(self, images: Tensor) -> Prediction:
        """Answer normalised images (B, 3, S, S).

        If the model is `mirrored`, everything but the maps is the mean over the images and their mirror images. The
        maps are those of the original images.
        """
        return self.answer(*self.looks(images))

    def looks(self, images: Tensor) -> tuple[Tensor, ...]:
        """What is looked at to answer images: these, and their mirror images if the model is `mirrored`."""
        return (images, images.flip(-1)) if self.mirrored else (images,)

    def answer(self, *looks: Tensor) -> Prediction:
        """The answer by all `looks` at the same images; see `forward`."""
        seen, *others = (self._look(images) for images in looks)
        for other in others:
            seen = seen._replace(
                logits=(seen.logits + other.logits) / 2,
                embedding=(seen.embedding + other.embedding) / 2,
                attributes=tuple((one + two) / 2 for one, two in zip(seen.attributes, other.attributes, strict=True)),
            )
        if self.enrolled is None:
            return seen
        return seen._replace(logits=self.enrolled(seen.logits, seen.embedding))

    def unmirrored(self) -> Model:
        """The same that sees an image as it is, for explanations."""
        if not self.mirrored:
            return self
        plain = Model(self.method, self.attributes)
        plain.enrolled = self.enrolled
        return plain.train(self.training)

    def _look(self, images: Tensor) -> Prediction:
        prediction: Prediction = self.method(images)
        if self.attributes is None:
            return prediction
        return prediction._replace(attributes=self.attributes(prediction.pooled))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Named scalar losses of one step: those of the method, and that of the attributes where the step looked at
        whole images."""
        terms, pooled = self.method.losses(batch, step)
        if self.attributes is None or batch.attributes is None or pooled is None:
            return terms
        own = batch.weights[:, 0]  # of a mixed image, the share that is its own: its row is the one that is known
        return terms | {"attributes": self.attributes.loss(pooled, batch.attributes, own)}

    def weights(self) -> dict[str, Tensor]:
        """The weights that a bundle keeps: all but those of auxiliaries, which are only for training."""
        training = tuple(f"{name}." for name, one in self.method.named_modules() if isinstance(one, Auxiliary))
        kept = {key: value for key, value in self.method.state_dict().items() if not key.startswith(training)}
        if self.attributes is not None:
            kept |= {f"{_ATTRIBUTES}{key}": value for key, value in self.attributes.state_dict().items()}
        return kept

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load what `weights` gave. Raises RuntimeError if they belong to another model."""
        own = {key.removeprefix(_ATTRIBUTES): weights[key] for key in weights if key.startswith(_ATTRIBUTES)}
        self.method.load_state_dict({key: weights[key] for key in weights if not key.startswith(_ATTRIBUTES)})
        if self.attributes is not None:
            self.attributes.load_state_dict(own)
        elif own:
            raise RuntimeError(f"weights for attributes that the model does not have: {', '.join(own)}")
