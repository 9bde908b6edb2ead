"""The attributes of a catalogue that are learnt: their values, and the value that each image has.

Shapes: N samples, A attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import RecipeError, nearest
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import Catalog
from fieldmark.data.names import lookup
from fieldmark.data.readers.folder import natural_key

__all__ = ["UNKNOWN", "attribute_codes", "attribute_values", "unscored"]

UNKNOWN = -1
"""The code of a value that is not given, or that no training image has."""


def attribute_values(catalog: Catalog, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values that each of these attributes may have: those outside the test split, sorted naturally.

    Raises RecipeError for a name that the data does not have and for an attribute that cannot be learnt.
    """
    values: dict[str, tuple[str, ...]] = {}
    find = lookup(catalog.attributes)
    for asked in names:
        if not catalog.attributes:
            raise RecipeError(
                f"labels.attributes names {asked!r}, but {catalog.name} has no attributes",
                f"Give its table a column attribute.{asked}, or leave labels.attributes out.",
            )
        if (name := find(asked)) is None:
            hint = nearest(asked.removeprefix("attribute."), catalog.attributes)
            raise RecipeError(f"labels.attributes names {asked!r}, which {catalog.name} does not have", hint)
        if name in values:
            raise RecipeError(f"labels.attributes names {name!r} twice", "Name each attribute once.")
        given = catalog.attributes[name][catalog.splits != "test"]
        given = given[given != ""]
        found = sorted(set(given.tolist()), key=natural_key)
        problem = ""
        if len(found) < 2:
            problem = f"has {'only the value ' + repr(found[0]) if found else 'no value'} outside the test split"
        elif len(found) > len(given) / 2:
            problem = f"has {len(found):,} values in {len(given):,} images, too many to learn"
        if problem:
            raise RecipeError(f"The attribute {name!r} {problem}", "Leave it out of labels.attributes.")
        values[name] = tuple(found)
    return values


def attribute_codes(catalog: Catalog, values: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
    """(N, A) each image's value of each attribute as an index into its values; UNKNOWN if it has none of them."""
    codes = np.full((len(catalog), len(values)), UNKNOWN, np.int64)
    for column, (name, known) in enumerate(values.items()):
        if name in catalog.attributes:
            index = {value: code for code, value in enumerate(known)}
            codes[:, column] = [index.get(value, UNKNOWN) for value in catalog.attributes[name].tolist()]
    return codes


def unscored(catalog: Catalog, values: Mapping[str, Sequence[str]], rows: NDArray[np.int64]) -> list[str]:
    """Why attributes of these rows cannot be scored, in words: the data lacks them, or has unknown values."""
    found = []
    for name, known in values.items():
        if name not in catalog.attributes:
            found.append(f"{catalog.name} does not have the attribute {name!r}, so it is not scored")
            continue
        said = catalog.attributes[name][rows]
        strange = said[(said != "") & ~np.isin(said, list(known))]
        if len(strange):
            unknown = first_few(sorted(set(strange.tolist())))
            left_out = f"{counted(len(strange), 'image')} left out of the score of {name!r}"
            found.append(f"{left_out}: the model does not know the values {unknown}")
    return found
