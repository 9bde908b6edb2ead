"""The report of a run: one page with what the model answers, where it errs, and what it was made from.

    gather(run, catalog)      what a run holds, as plain data (`material`)
    compose(material)         the page (`composition`: the list of sections)

A section is a function from the material to blocks (`blocks`); `answers` and `training` hold them. It needs no HTML:
`pages/report.html` knows how each kind of block looks. `slices` is the statistics, `groupings` what to slice by.
`parts` is a page of its own: what discovered parts look like.
"""

from fieldmark.reporting.answers import NUM_PAIRS
from fieldmark.reporting.composition import SECTIONS, compose
from fieldmark.reporting.material import Answer, Material, Part, gather
from fieldmark.reporting.parts import Example, compose_parts

__all__ = ["NUM_PAIRS", "SECTIONS", "Answer", "Example", "Material", "Part", "compose", "compose_parts", "gather"]
