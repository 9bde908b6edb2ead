"""Each official layout, generated in small, becomes the catalogue that its files say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import FGVCAircraft, Flowers102, Food101, INaturalist, OxfordIIITPet, StanfordCars

import fieldmark
from fieldmark.core.errors import DataWarning
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import decode
from fieldmark.data.sets import DATASETS, read
from fieldmark.data.sets.inaturalist import nested
from fieldmark.data.sets.stanford_cars import taxonomy
from support.official import CARS, CIFAR_CLASSES, MAKERS, cifar_pixels

Lay = Callable[[str], Path]


def truth(catalog: Catalog) -> set[tuple[str, str, str]]:
    """Path, class name and part of every sample."""
    names = [catalog.classes[label] for label in catalog.labels]
    return set(zip(catalog.paths, names, catalog.splits.tolist(), strict=True))


def shown(found: Iterable[tuple[Any, int]], names: Sequence[str], split: str) -> list[tuple[str, str, bytes]]:
    """Class name, split and pixels of every sample, as torchvision gives them."""
    return [(names[label], split, image.tobytes()) for image, label in found]


def read_as(catalog: Catalog) -> list[tuple[str, str, bytes]]:
    """The same, as Fieldmark reads them."""
    names = [catalog.classes[label] for label in catalog.labels]
    pixels = [decode(catalog.file(row)).pixels.tobytes() for row in range(len(catalog))]
    return list(zip(names, catalog.splits.tolist(), pixels, strict=True))


def counts(catalog: Catalog) -> tuple[int, int, int]:
    train, val, test = (len(catalog.rows(split)) for split in ("train", "val", "test"))
    return train, val, test


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_one_is_read_by_name_and_by_path(name: str, lay: Lay) -> None:
    folder = lay(name)
    by_name = read(name, folder if name == "inaturalist" else folder.parent)
    assert all(by_name.file(row).is_file() for row in range(len(by_name)))
    assert len(by_name.rows("train"))
    assert len(by_name.rows("test"))
    assert truth(read(folder)) == truth(by_name)
    assert truth(read(name, folder)) == truth(by_name)
    assert truth(fieldmark.read(folder)) == truth(by_name)
    by_another_name = read(name.upper().replace("_", "-"), folder)
    assert dataclasses.asdict(by_another_name).keys() == dataclasses.asdict(by_name).keys()


def test_every_known_one_is_drawn_for_these_tests() -> None:
    assert set(MAKERS) == set(DATASETS)


def test_flowers102(lay: Lay) -> None:
    folder = lay("flowers102")
    catalog = read(folder)
    assert counts(catalog) == (102, 102, 102)
    assert catalog.classes == tuple(Flowers102.classes)
    row = catalog.paths.index("jpg/image_00104.jpg")
    assert (catalog.labels[row], catalog.splits[row]) == (1, "val")
    names = [f'{number},"flower, {number}"' for number in range(102, 0, -1)]
    (folder / "class_names.csv").write_text("\n".join(["class_id,class_name", *names]))
    assert read(folder).classes[:2] == ("flower, 1", "flower, 2")


def test_stanford_cars(lay: Lay) -> None:
    folder = lay("stanford_cars")
    catalog = read(folder)
    assert counts(catalog) == (8, 0, 8)
    assert catalog.classes == tuple(CARS)
    assert dict(catalog.taxonomy) == {
        "model": ("AM General Hummer SUV", "Audi S4 Sedan", "Audi S4 Sedan", "Land Rover LR2 SUV"),
        "make": ("AM General", "Audi", "Audi", "Land Rover"),
    }
    assert catalog.boxes is not None
    np.testing.assert_array_equal(catalog.boxes[0], [2, 1, 10, 8])  # columns 3 to 12 counted from one
    splits = ("train", "test")
    official = [one for name in splits for one in shown(StanfordCars(folder.parent, split=name), CARS, name)]
    assert sorted(read_as(catalog)) == sorted(official)
    labels = folder / "cars_test_annos_withlabels.mat"
    labels.rename(folder / "devkit" / labels.name)
    assert truth(read(folder)) == truth(catalog)


def test_cars_in_other_layouts(lay: Lay) -> None:
    joint = read("stanford_cars", lay("cars_joint").parent)
    assert counts(joint) == (4, 0, 4)
    assert joint.boxes is not None
    np.testing.assert_array_equal(joint.boxes[0], [0, 0, 16, 12])
    folders = read(lay("cars_folders").parent)
    assert (folders.classes, counts(folders)) == (joint.classes, (4, 0, 4))
    assert folders.taxonomy == joint.taxonomy


def test_makes_of_two_words() -> None:
    names = ["Aston Martin V8 Vantage Coupe 2012", "smart fortwo Convertible 2012", "Ram C/V Cargo Van Minivan 2012"]
    assert taxonomy(names)["make"] == ("Aston Martin", "smart", "Ram")
    assert taxonomy(["Chevrolet Silverado 2500HD Regular Cab 2012"])["model"] == (
        "Chevrolet Silverado 2500HD Regular Cab",
    )


def test_fgvc_aircraft(lay: Lay) -> None:
    folder = lay("fgvc_aircraft")
    catalog = read(folder)
    assert counts(catalog) == (6, 6, 6)
    assert catalog.classes == ("737-200", "737-300", "F/A-18")
    assert dict(catalog.taxonomy) == {
        "family": ("Boeing 737", "Boeing 737", "F/A-18"),
        "manufacturer": ("Boeing", "Boeing", "McDonnell Douglas"),
    }
    assert catalog.boxes is not None
    np.testing.assert_array_equal(catalog.boxes, np.tile([1, 2, 10, 6], (18, 1)))
    splits = ("train", "val", "test")
    official = [one for name in splits for one in shown(FGVCAircraft(folder.parent, split=name), catalog.classes, name)]
    assert sorted(read_as(catalog)) == sorted(official)
    for name in ("images_box.txt", "images_family_train.txt", "images_family_val.txt", "images_family_test.txt"):
        (folder / "data" / name).unlink()
    bare = read(folder)
    assert bare.boxes is None
    assert list(bare.taxonomy) == ["manufacturer"]


def test_oxford_iiit_pet(lay: Lay) -> None:
    folder = lay("oxford_iiit_pet")
    catalog = read(folder)
    assert counts(catalog) == (6, 0, 6)
    assert catalog.classes == tuple(OxfordIIITPet(folder.parent).classes)
    assert dict(catalog.taxonomy) == {"species": ("cat", "dog", "cat")}
    assert catalog.boxes is not None
    with_head = [path for path, box in zip(catalog.paths, catalog.boxes, strict=True) if not np.isnan(box).any()]
    assert with_head == ["images/Abyssinian_1.jpg", "images/american_bulldog_1.jpg", "images/Egyptian_Mau_1.jpg"]
    np.testing.assert_array_equal(catalog.boxes[0], [2, 1, 8, 8])


def test_food101(lay: Lay) -> None:
    folder = lay("food101")
    catalog = read(folder)
    assert counts(catalog) == (4, 0, 4)
    assert catalog.classes == ("apple pie", "waffles")
    splits = ("train", "test")
    official = [one for name in splits for one in shown(Food101(folder.parent, split=name), catalog.classes, name)]
    assert sorted(read_as(catalog)) == sorted(official)


def test_inaturalist_2021(lay: Lay) -> None:
    root = lay("inaturalist")
    catalog = read(root)
    assert counts(catalog) == (12, 0, 4)  # the published validation split is what everyone reports on
    assert catalog.classes == ("Morus bassanus", "Morus capensis", "Morus alba", "Ficus carica")
    assert list(catalog.taxonomy) == ["genus", "family", "order", "class", "phylum", "kingdom"]
    assert catalog.taxonomy["genus"] == ("Morus (Sulidae)", "Morus (Sulidae)", "Morus (Moraceae)", "Ficus")
    assert catalog.taxonomy["kingdom"] == ("Animalia", "Animalia", "Plantae", "Plantae")
    official = INaturalist(str(root), version="2021_valid")
    assert {(label, file) for label, file in official.index} == {
        (catalog.labels[row], Path(catalog.paths[row]).name) for row in catalog.rows("test")
    }


def test_inaturalist_by_its_archives_names_and_in_part(lay: Lay) -> None:
    root = lay("inaturalist")
    before = truth(read(root))
    (root / "2021_train").rename(root / "train_mini")
    (root / "2021_valid").rename(root / "val")
    assert {sample[1:] for sample in truth(read(root))} == {sample[1:] for sample in before}
    (root / "val").rename(root / "2021_valid")
    (root / "train_mini").rename(root / "elsewhere")
    with pytest.warns(DataWarning, match="holds only 2021_valid: the splits are cut from it"):
        assert not read(root).is_split


def test_inaturalist_of_older_years(lay: Lay) -> None:
    root = lay("inaturalist_2018")
    catalog = read("inaturalist", root)
    assert counts(catalog) == (4, 0, 4)
    assert catalog.classes == ("Morus bassanus", "Morus capensis", "Morus alba", "Ficus carica")
    assert catalog.taxonomy["family"] == ("Sulidae", "Sulidae", "Moraceae", "Moraceae")
    (root / "train_val2018").rename(root / "2018")
    (root / "categories.json").unlink()
    plain = read(root)
    assert plain.paths[0] == "2018/Aves/0/train0.jpg"
    assert plain.classes == ("0", "1", "2", "3")
    assert dict(plain.taxonomy) == {"supercategory": ("Aves", "Aves", "Plantae", "Plantae")}


def test_names_that_stand_for_different_things_are_made_different() -> None:
    levels = {"genus": ["A", "A", "B"], "family": ["F", "F", "F"], "order": ["O", "P", "O"]}
    assert nested(levels) == {
        "genus": ("A (F (O))", "A (F (P))", "B"),
        "family": ("F (O)", "F (P)", "F (O)"),
        "order": ("O", "P", "O"),
    }


def test_cifar10_is_written_out_once_without_loss(lay: Lay, tmp_path: Path) -> None:
    folder = lay("cifar10")
    said: list[str] = []
    catalog = read(folder, tell=said.append)
    assert len(said) == 1
    assert str(tmp_path / "cache" / "datasets" / "cifar10") in said[0]
    assert catalog.classes == tuple(CIFAR_CLASSES)
    assert counts(catalog) == (50, 0, 10)
    for row, path in enumerate(catalog.paths):
        split, name, file = path.split("/")
        batch, index = divmod(int(Path(file).stem) + (50 if split == "test" else 0), 10)
        assert name == CIFAR_CLASSES[9 - index]
        pixels = decode(catalog.file(row)).pixels
        np.testing.assert_array_equal(pixels, cifar_pixels(batch)[index].transpose(1, 2, 0))
    with pytest.warns(DataWarning, match="60 of 60,000 images"):
        again = read("cifar10", tell=said.append)  # from the cache, without any root
    assert truth(again) == truth(catalog)
    assert truth(read(folder, tell=said.append)) == truth(catalog)
    assert len(said) == 1


def test_cub(lay: Lay) -> None:
    catalog = read("cub", lay("cub").parent)
    assert catalog.classes == ("Black footed Albatross", "Cardinal")
    assert counts(catalog) == (2, 0, 2)
    assert catalog.boxes is not None
