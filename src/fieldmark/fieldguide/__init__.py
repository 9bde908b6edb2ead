"""The field guide: a generated data set of birds that do not exist, for tests, demonstrations and promises.

    draw(dest)                      pictures, masks, catalog.csv, guide.json, guide.png and guide.html in a folder
    make_guide(), read_guide(dest)  species, marks, and which marks tell two species apart
    render(guide, species, index)   one picture and the whole truth about it; `marks_of` redraws the same bird

Families differ in build, genera in plumage and beak, and species of a genus in one or two field marks. Other fields
ask for other classes (`kind=`), and real collections have faults (`noise`, `duplicates`, `long_tail`):

    species       which species: one or two small marks decide
    stages        how far a moult has come, 0 … 4, whatever the species: classes in order
    individuals   which bird: by spots of its own; pictures come in bursts, which are groups
    attributes    which species, while its marks vary freely: attribute.<mark> for each picture
    impostors     genuine or not: one mark of three has another colour
    mirror        a mark on the left side or on the right: a flip exchanges two species
"""

from fieldmark.fieldguide.anatomy import KEYPOINTS
from fieldmark.fieldguide.guide import Genus, Guide, HabitatRule, Kind, Options, Species, make_guide
from fieldmark.fieldguide.marks import FIRST_MARK, MARKS, mark_id
from fieldmark.fieldguide.plumage import PARTS
from fieldmark.fieldguide.render import Drawing, render
from fieldmark.fieldguide.scene import Scene, make_scene, split_of
from fieldmark.fieldguide.sheet import contact_sheet
from fieldmark.fieldguide.writing import draw, read_guide

__all__ = [
    "FIRST_MARK",
    "KEYPOINTS",
    "MARKS",
    "PARTS",
    "Drawing",
    "Genus",
    "Guide",
    "HabitatRule",
    "Kind",
    "Options",
    "Scene",
    "Species",
    "contact_sheet",
    "draw",
    "make_guide",
    "make_scene",
    "mark_id",
    "read_guide",
    "render",
    "split_of",
]
