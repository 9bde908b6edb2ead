"""What may be enrolled in a bundle: names that are free, their place in the taxonomy, and all new classes together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from fieldmark.core.errors import RunError, nearest
from fieldmark.core.wording import counted, first_few
from fieldmark.data.names import lookup, normal
from fieldmark.evaluation.enrolment import Fitted, Kept, Shown, fit_enrolment
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.enrolment import Enrolment, taxonomy_with

__all__ = ["Classes", "enrolled_label", "free_name", "kept_in", "place_of"]


@final
@dataclass(frozen=True, eq=False)
class Classes:
    """What is to be enrolled, all classes together."""

    names: tuple[str, ...]
    above: tuple[Mapping[str, str], ...]
    shown: Shown

    @classmethod
    def of(cls, bundle: Bundle, kept: Kept) -> Classes:
        """Those that are enrolled."""
        if bundle.enrolment:
            return cls(bundle.enrolment.names, bundle.enrolment.above, bundle.enrolment.shown)
        return cls((), (), Shown(kept.logits[:0], kept.embedding[:0], kept.labels[:0]))

    def with_class(self, name: str, above: Mapping[str, str]) -> Classes:
        return replace(self, names=(*self.names, name), above=(*self.above, above))

    def with_photographs(self, label: int, new: Shown) -> Classes:
        """The new ones come after those of before."""
        old = self.shown
        labels = np.concatenate([old.labels, np.full(len(new.labels), label)])
        both = np.concatenate([old.logits, new.logits]), np.concatenate([old.embedding, new.embedding]), labels
        order = np.argsort(labels, kind="stable")
        return replace(self, shown=Shown(*(values[order] for values in both)))

    def without(self, label: int) -> Classes:
        rest = [k for k in range(len(self.names)) if k != label]
        left = self.shown.labels != label
        shown = Shown(*(values[left] for values in self.shown))
        shown = shown._replace(labels=shown.labels - (shown.labels > label))
        return Classes(tuple(self.names[k] for k in rest), tuple(self.above[k] for k in rest), shown)

    def fitted(self, bundle: Bundle, kept: Kept) -> tuple[Enrolment, Fitted]:
        """What becomes of them in a bundle."""
        trained = bundle.trained
        seed = int(trained.provenance.get("seed", 0))
        taxonomy = taxonomy_with(trained.taxonomy, self.names, self.above)
        found = fit_enrolment(kept, self.shown, trained.calibration, taxonomy, seed=seed)
        return Enrolment(self.names, self.above, self.shown, found.gate, found.calibration), found


def kept_in(bundle: Bundle) -> Kept:
    """What classes are enrolled by. Raises RunError where it is not kept, or no class can be enrolled."""
    kept = bundle.read_kept()
    if kept is None:
        raise RunError(
            f"{bundle.folder} keeps nothing by which a class could be enrolled",
            "It is of an earlier version, or has learnt fewer than two classes with two images: train again.",
        )
    if bundle.trained.task.grades:
        raise RunError(
            "The classes of this run are grades of one scale, and a photograph cannot say where on it another one lies",
            "Train again with images of all grades.",
        )
    return kept


def enrolled_label(bundle: Bundle, name: str) -> int:
    """The number of an enrolled class. Raises RunError if it is none."""
    names = bundle.enrolment.names if bundle.enrolment else ()
    if (found := lookup(names)(name)) is not None:
        return names.index(found)
    if lookup(bundle.classes)(name) is not None:
        raise RunError(
            f"{name} was learnt in training, not enrolled",
            "To change what was learnt, train again.",
        )
    raise RunError(
        f"No class {name!r} is enrolled in {bundle.folder}",
        nearest(name, names) if names else "None is. To enrol one, name it and its photographs.",
    )


def free_name(bundle: Bundle, name: str, instead_of: str = "") -> str:
    """A name for a new class, as it is kept. Raises RunError if it is taken."""
    name = normal(name)
    if not name:
        raise RunError("The name of the class is empty", "Give a name, such as 'Passerina ciris'.")
    found = lookup(one for one in bundle.classes if one != instead_of)(name)
    if found is not None and found in bundle.photographs:
        raise RunError(
            f"{found} is enrolled already, from {counted(bundle.photographs[found], 'photograph')}",
            "To add photographs: --add. To give it another name: --rename. Or choose another name.",
        )
    if found is not None:
        raise RunError(
            f"{found} is a class of this run already, learnt in training",
            "To teach it more photographs, train again. A new class needs another name.",
        )
    for level, names in bundle.taxonomy.items():
        if (found := lookup(set(names))(name)) is not None:
            raise RunError(
                f"{found} is the name of a {level} in the taxonomy of this run, not of a class",
                f"Choose another name, and say --under {level}={found} if it belongs there.",
            )
    return name


def place_of(bundle: Bundle, under: Mapping[str, str]) -> dict[str, str]:
    """The name of a new class at each level of the taxonomy. Raises RunError if `under` does not settle them all."""
    taxonomy = bundle.taxonomy
    given = {lookup(taxonomy)(level): normal(name) for level, name in under.items()}
    if unknown := [level for level in under if lookup(taxonomy)(level) is None]:
        there = f"Its levels are {', '.join(taxonomy)}." if taxonomy else "It has no level above the classes."
        raise RunError(f"The taxonomy of this run has no level {unknown[0]!r}", there)
    found: dict[str, str] = {}
    known: int | None = None  # a class that shares the finest name that is known
    for level, names in taxonomy.items():
        follows = None if known is None else names[known]
        if (own := given.get(level)) is None:
            if follows is None:
                raise RunError(
                    f"It is not said to which {level} the new class belongs",
                    f"Say it with --under {level}=NAME, such as --under {_quoted(level, names[0])}.",
                )
            found[level] = follows
            continue
        own = lookup(set(names))(own) or own
        if follows is not None and follows != own:
            raise RunError(
                f"The {level} {own!r} does not go with {first_few(f'{k} {v!r}' for k, v in found.items())}, which "
                f"belongs to {follows!r} in this run",
                f"Leave --under {level} out, or correct it.",
            )
        if known is None and own in names:
            known = names.index(own)
        found[level] = own
    return found


def _quoted(level: str, name: str) -> str:
    return f"'{level}={name}'" if " " in name else f"{level}={name}"
