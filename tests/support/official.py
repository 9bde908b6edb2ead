"""Every official layout, in small: drawn pictures beside real .mat, .xml, .json, .txt and pickle files."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CARS = ["AM General Hummer SUV 2000", "Audi S4 Sedan 2007", "Audi S4 Sedan 2012", "Land Rover LR2 SUV 2012"]
SPECIES = [
    "00000_Animalia_Chordata_Aves_Suliformes_Sulidae_Morus_bassanus",
    "00001_Animalia_Chordata_Aves_Suliformes_Sulidae_Morus_capensis",
    "00002_Plantae_Tracheophyta_Magnoliopsida_Rosales_Moraceae_Morus_alba",
    "00003_Plantae_Tracheophyta_Magnoliopsida_Rosales_Moraceae_Ficus_carica",
]


def picture(file: Path, number: int = 0) -> None:
    """A small drawing; each number another."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((12, 16, 3), (number * 37 % 256, number * 91 % 256, 120), np.uint8)
    pixels[number % 8 : number % 8 + 4, 2:9] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(file)


def write(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def structs(rows: list[dict[str, Any]]) -> np.ndarray:
    """A MATLAB struct array."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row.values())
    return array


def cells(names: list[str]) -> np.ndarray:
    array = np.empty((1, len(names)), object)
    array[0] = names
    return array


def flowers102(root: Path) -> Path:
    """102 classes of three images; their numbers run through the classes, as the official ones do not."""
    folder = root / "flowers-102"
    n = 3 * 102
    for i in range(1, n + 1):
        picture(folder / "jpg" / f"image_{i:05}.jpg", i)
    labels = np.arange(n) % 102 + 1
    savemat(folder / "imagelabels.mat", {"labels": labels.astype(np.uint8)})
    numbers = np.arange(1, n + 1, dtype=np.uint16)
    savemat(folder / "setid.mat", {"trnid": numbers[:102], "valid": numbers[102:204], "tstid": numbers[204:][::-1]})
    return folder


def stanford_cars(root: Path) -> Path:
    folder = root / "stanford_cars"
    for split, file, first in (
        ("train", "devkit/cars_train_annos.mat", 0),
        ("test", "cars_test_annos_withlabels.mat", 1),
    ):
        rows = []
        for i in range(2 * len(CARS)):
            name = f"{i + 1:05}.jpg"
            picture(folder / f"cars_{split}" / name, i)
            label = (i + first) % len(CARS) + 1
            rows.append({"bbox_x1": 3, "bbox_y1": 2, "bbox_x2": 12, "bbox_y2": 9, "class": label, "fname": name})
        (folder / "devkit").mkdir(exist_ok=True)
        savemat(folder / file, {"annotations": structs(rows)})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": cells(CARS)})
    return folder


def cars_joint(root: Path) -> Path:
    folder = root / "stanford_cars"
    rows = []
    for i in range(8):
        path = f"car_ims/{i + 1:06}.jpg"
        picture(folder / path, i)
        corners = {"bbox_x1": 1, "bbox_y1": 1, "bbox_x2": 16, "bbox_y2": 12}
        rows.append({"relative_im_path": path, **corners, "class": i % 4 + 1, "test": int(i >= 4)})
    savemat(folder / "cars_annos.mat", {"annotations": structs(rows), "class_names": cells(CARS)})
    return folder


def cars_folders(root: Path) -> Path:
    folder = root / "car_data" / "car_data"
    for i, name in enumerate(CARS):
        picture(folder / "train" / name / "1.jpg", i)
        picture(folder / "test" / name / "2.jpg", i + 10)
    return folder


def fgvc_aircraft(root: Path) -> Path:
    folder = root / "fgvc-aircraft-2013b"
    data = folder / "data"
    variants = {
        "737-200": ("Boeing 737", "Boeing"),
        "737-300": ("Boeing 737", "Boeing"),
        "F/A-18": ("F/A-18", "McDonnell Douglas"),
    }
    write(data / "variants.txt", *variants)
    boxes = []
    for p, split in enumerate(("train", "val", "test")):
        images = [f"{1000 * p + i:07}" for i in range(6)]
        names = [list(variants)[i % 3] for i in range(6)]
        for i, image in enumerate(images):
            picture(data / "images" / f"{image}.jpg", 10 * p + i)
        write(data / f"images_variant_{split}.txt", *map(" ".join, zip(images, names, strict=True)))
        for level, name in enumerate(("family", "manufacturer")):
            rows = [f"{image} {variants[variant][level]}" for image, variant in zip(images, names, strict=True)]
            write(data / f"images_{name}_{split}.txt", *rows)
        boxes += [f"{image} 2 3 11 8" for image in images]
    write(data / "images_box.txt", *boxes)
    return folder


def inaturalist(root: Path) -> Path:
    for i, name in enumerate(SPECIES):
        for split, images in (("2021_train", 3), ("2021_valid", 1)):
            for k in range(images):
                picture(root / split / name / f"{split}{k}.jpg", 10 * i + k)
    return root


def inaturalist_2018(root: Path) -> Path:
    """The names that were released later, as a file of its own."""
    categories = []
    for i, name in enumerate(SPECIES):
        _, kingdom, phylum, group, order, family, genus, epithet = name.split("_")
        levels = {"kingdom": kingdom, "phylum": phylum, "class": group, "order": order, "family": family}
        named = {"name": f"{genus} {epithet}", "genus": genus, **levels}
        categories.append({"id": i, "supercategory": group if kingdom == "Animalia" else kingdom, **named})
    write(root / "categories.json", json.dumps(categories))
    obscured = [{"id": c["id"], "name": str(c["id"]), "supercategory": c["supercategory"]} for c in categories]
    for split, first in (("train", 0), ("val", 100)):
        images, notes = [], []
        for i, category in enumerate(categories):
            file = f"train_val2018/{category['supercategory']}/{i}/{split}{i}.jpg"
            picture(root / file, i)
            images.append({"id": first + i, "file_name": file})
            notes.append({"id": first + i, "image_id": first + i, "category_id": i})
        listed = {"images": images, "annotations": notes, "categories": obscured}
        write(root / f"{split}2018.json", json.dumps(listed))
    return root


def oxford_iiit_pet(root: Path) -> Path:
    folder = root / "oxford-iiit-pet"
    breeds = {"Abyssinian": 1, "american_bulldog": 2, "Egyptian_Mau": 3}
    for split, first in (("trainval", 1), ("test", 100)):
        rows = []
        for name, number in breeds.items():
            for i in range(first, first + 2):
                rows.append(f"{name}_{i} {number} {1 if name[0].isupper() else 2} 1")
                picture(folder / "images" / f"{name}_{i}.jpg", number + i)
        write(folder / "annotations" / f"{split}.txt", *rows)
    for name in breeds:
        corners = "<xmin>3</xmin><ymin>2</ymin><xmax>10</xmax><ymax>9</ymax>"
        xml = f"<annotation><object><name>cat</name><bndbox>{corners}</bndbox></object></annotation>"
        write(folder / "annotations" / "xmls" / f"{name}_1.xml", xml)
    return folder


def food101(root: Path) -> Path:
    folder = root / "food-101"
    for split, first in (("train", 0), ("test", 10)):
        listed = {name: [f"{name}/{first + i}" for i in range(2)] for name in ("apple_pie", "waffles")}
        write(folder / "meta" / f"{split}.json", json.dumps(listed))
        for image in itertools.chain(*listed.values()):
            picture(folder / "images" / f"{image}.jpg", len(image))
    return folder


def cub(root: Path) -> Path:
    folder = root / "CUB_200_2011"
    names = ["001.Black_footed_Albatross/a.jpg", "001.Black_footed_Albatross/b.jpg", "017.Cardinal/c.jpg"]
    names.append("017.Cardinal/d.jpg")
    for i, name in enumerate(names):
        picture(folder / "images" / name, i)
    write(folder / "images.txt", *(f"{i + 1} {name}" for i, name in enumerate(names)))
    write(folder / "image_class_labels.txt", "1 1", "2 1", "3 2", "4 2")
    write(folder / "classes.txt", "1 001.Black_footed_Albatross", "2 017.Cardinal")
    write(folder / "train_test_split.txt", "1 1", "2 0", "3 1", "4 0")
    write(folder / "bounding_boxes.txt", *(f"{i} 1.0 2.0 9.0 8.0" for i in range(1, 5)))
    return folder


def cifar_pixels(batch: int) -> np.ndarray:
    """(10, 3, 32, 32), what the batch of this number holds."""
    return np.random.default_rng(batch).integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)


def cifar10(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        batch = {"data": cifar_pixels(i).reshape(10, -1), "labels": list(range(10))[::-1]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": CIFAR_CLASSES}))
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    maker.__name__: maker
    for maker in (cifar10, cub, fgvc_aircraft, flowers102, food101, inaturalist, oxford_iiit_pet, stanford_cars)
}
OTHERS = {maker.__name__: maker for maker in (cars_joint, cars_folders, inaturalist_2018)}


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make torchvision believe that these are the published files."""
    from torchvision.datasets import CIFAR10

    def listed(*names: str) -> list[list[str]]:
        return [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name in names]

    monkeypatch.setattr(CIFAR10, "train_list", listed(*(f"data_batch_{k}" for k in range(1, 6))))
    monkeypatch.setattr(CIFAR10, "test_list", listed("test_batch"))
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": listed("batches.meta")[0][1]})
