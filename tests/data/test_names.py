from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.comparison.result import data_digest
from fieldmark.core.errors import DataError, RecipeError, RunError
from fieldmark.core.recipe import Recipe
from fieldmark.data.attributes import attribute_values
from fieldmark.data.auditing.alike_names import name_findings
from fieldmark.data.catalog import Catalog
from fieldmark.data.names import alike, lookup, normal
from fieldmark.data.readers.table import read_table
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.data.write import write_catalog
from fieldmark.runs.bundle import Bundle

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@given(st.text(st.sampled_from("aé\u0301 B\u00a0\t\u3000가\u1100\u1161"), max_size=8))
def test_a_normal_name_stays_as_it_is(name: str) -> None:
    once = normal(name)
    assert normal(once) == once == once.strip()
    assert normal(f" {unicodedata.normalize('NFD', name)}\n") == once
    assert lookup([name])(once) == name


def test_capitals_are_kept_and_blanks_are_not() -> None:
    assert normal("  Black \u00a0headed\tGull ") == "Black headed Gull"
    assert normal(DECOMPOSED) == COMPOSED


def test_what_is_typed_finds_what_is_meant() -> None:
    find = lookup([COMPOSED, "Robin", "robin", "Song Thrush", "rose "])
    assert find(DECOMPOSED) == COMPOSED
    assert find("CAFÉ") == COMPOSED
    assert find("song  thrush ") == "Song Thrush"
    assert find("robin") == "robin"
    assert find("Robin") == "Robin"
    assert find("ROBIN") is None  # either could be meant
    assert find("rose") == find("rose ") == "rose "
    assert find("tulip") is None


def test_names_alike() -> None:
    assert alike(["Robin", "wren", "robin", "Song Thrush", "songthrush", "Ａ", "a", "b"]) == [
        ("Robin", "robin"),
        ("Song Thrush", "songthrush"),
        ("Ａ", "a"),
    ]


def catalog(*classes: str, **more: object) -> Catalog:
    n = len(classes)
    return Catalog(
        name="birds",
        root=Path("/birds"),
        paths=tuple(f"{row}.jpg" for row in range(n)),
        labels=np.arange(n),
        classes=classes,
        splits=np.full(n, "", "<U5"),
        groups=np.full(n, "", "<U1"),
        **more,  # type: ignore[arg-type]  # whatever the test changes
    )


def test_a_catalogue_has_normal_names_whoever_made_it() -> None:
    given = catalog("rose ", DECOMPOSED, taxonomy=Taxonomy(("rose ", DECOMPOSED), {"genus": ("a", "b")}))
    assert given.classes == given.taxonomy.classes == ("rose", COMPOSED)
    assert given.taxonomy["genus"] == ("a", "b")
    with pytest.raises(DataError, match=r"birds has two classes called 'rose'\. Make them one class, or rename one"):
        catalog("rose", "rose ")


def test_a_catalogue_stays_the_same_in_a_table(tmp_path: Path) -> None:
    """A comparison hands its data to its trainings in one."""
    classes = ("rose ", "#3 pencil", DECOMPOSED, "a,b; c", '"quoted"', "鳥", "Robin", "robin", "two  blanks")
    for name in range(len(classes)):
        (tmp_path / f"{name}.jpg").touch()
    given = replace(catalog(*classes), root=tmp_path)
    write_catalog(tmp_path / "table.csv", given)
    written = read_table(tmp_path / "table.csv")
    assert {given.classes[label] for label in given.labels} == set(written.classes)
    assert data_digest(written) == data_digest(given)


def test_a_bundle_is_asked_as_people_type() -> None:
    bundle = Bundle(("Robin", "Song Thrush", COMPOSED), Recipe())
    assert bundle.class_rows(["CAFE\u0301", "song thrush ", "Song Thrush"]).tolist() == [1, 2]
    with pytest.raises(RunError, match=r"1 of 2 names are not classes of this model, such as 'wren'"):
        bundle.class_rows(["robin", "wren"])


def test_an_attribute_is_asked_for_as_people_type() -> None:
    found = catalog("a", "b", "c", "d", attributes={"Sex": np.array(["f", "m", "f", "m"])})
    assert attribute_values(found, ["sex "]) == {"Sex": ("f", "m")}
    with pytest.raises(RecipeError, match="names 'Sex' twice"):
        attribute_values(found, ["sex", "Sex"])


def test_tables_hold_normal_names(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    (tmp_path / "2.jpg").touch()
    rows = f"1.jpg,song  thrush,Turdus \u00a0,dark  grey\n2.jpg,{DECOMPOSED},{DECOMPOSED},{DECOMPOSED}\n"
    (tmp_path / "table.csv").write_text(f"path,label,level.genus,attribute.colour\n{rows}")
    found = read_table(tmp_path / "table.csv")
    assert found.classes == (COMPOSED, "song thrush")
    assert found.taxonomy["genus"] == (COMPOSED, "Turdus")
    assert found.attributes["colour"].tolist() == ["dark grey", COMPOSED]


def test_a_taxonomy_is_asked_as_people_type() -> None:
    tree = Taxonomy.of(["Larus canus", "Rissa tridactyla "], {"genus": [" Larus", "Rissa"]})
    assert tree.parent("larus  canus", "genus") == "Larus"
    assert tree.common_ancestor("rissa tridactyla", "Rissa tridactyla") == ("species", "Rissa tridactyla")


def test_an_audit_names_what_is_spelt_in_two_ways() -> None:
    found = catalog(
        "Robin",
        "wren",
        "robin",
        taxonomy=Taxonomy.of(["Robin", "wren", "robin"], {"genus": ["Erithacus", "Troglodytes", "erithacus"]}),
        attributes={"sex": np.array(["F", "f", "m"])},
    )
    (finding,) = name_findings(found)
    assert (finding.kind, finding.severity, finding.rows) == ("names-alike", "notice", (0, 2))
    assert [case.note for case in finding.cases] == [
        "classes 'Robin' (1 image), 'robin' (1 image)",
        "genus 'Erithacus', 'erithacus'",
        "values of sex: 'F', 'f'",
    ]
    assert list(name_findings(catalog("Robin", "wren"))) == []
