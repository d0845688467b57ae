"""The paper's data sets in small: noise images, laid out as the real archives are.

Each has nine classes for training and nine for testing, with two images each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, IMAGES = 9, 2
PARTS = ("train", "test")
# Settings of a recipe for one step on these images; add `prototypes.memory`.
ONE_STEP = (
    "preprocessing.height=32", "preprocessing.width=32", "model.pretrained=false", "run.steps=1",
    "run.evaluate_every=1", "sampler.batch_size=8", "sampler.images_per_class=2", "run.workers=0",
    "run.tensorboard=false", "run.device=cpu", "run.threads=1", "gsp.num_prototypes=4",
    "xbm.start=0",
)  # fmt: skip
Row = tuple[str, int, int]  # its part, class within the part, and number within the class


def rows() -> list[Row]:
    return [(part, c, k) for part in PARTS for c in range(CLASSES) for k in range(IMAGES)]


def draw(path: Path, row: Row) -> None:
    """Write the image: a class is a colour, with noise of each image on it."""
    part, label, number = row
    draws = np.random.default_rng([PARTS.index(part), label])
    noise = np.random.default_rng([PARTS.index(part), label, number]).integers(-40, 41, (40, 36, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((draws.integers(40, 216, 3) + noise).astype(np.uint8)).save(path)


def cub(root: Path) -> None:
    """Classes 1 to 100 train, and the others test."""
    images, labels = [], []
    for number, (part, label, k) in enumerate(rows(), 1):
        class_id = label + (1 if part == "train" else 101)
        name = f"{class_id:03d}.Bird/{k}.jpg"
        draw(root / "images" / name, (part, label, k))
        images.append(f"{number} {name}\n")
        labels.append(f"{number} {class_id}\n")
    (root / "images.txt").write_text("".join(images))
    (root / "image_class_labels.txt").write_text("".join(labels))


def cars(root: Path) -> None:
    """Classes 1 to 98 train; a MATLAB file lists all images."""
    from scipy.io import savemat

    kinds = [("bbox_x1", object), ("class", object), ("relative_im_path", object)]
    listed = []
    for number, (part, label, k) in enumerate(rows(), 1):
        name = f"car_ims/{number:06d}.jpg"
        draw(root / name, (part, label, k))
        listed.append((1, label + (1 if part == "train" else 99), name))
    names = np.array([f"Make{c} Model" for c in range(1, 197)], dtype=object)
    table = np.array(listed, dtype=kinds).reshape(1, -1)
    savemat(root / "cars_annos.mat", {"annotations": table, "class_names": names})


def sop(root: Path) -> None:
    """One list for each part; test classes begin at 11319."""
    for part in PARTS:
        lines = ["image_id class_id super_class_id path"]
        for number, row in enumerate(rows(), 1):
            if row[0] == part:
                class_id = row[1] + (1 if part == "train" else 11319)
                name = f"bicycle_final/{class_id}_{row[2]}.JPG"
                draw(root / name, row)
                lines.append(f"{number} {class_id} 1 {name}")
        (root / f"Ebay_{part}.txt").write_text("\n".join(lines) + "\n")


def inshop(root: Path) -> None:
    """Of each test item, one image is the query and the other is in the gallery."""
    lines = []
    for part, label, k in rows():
        item = f"id_{label + (0 if part == 'train' else 1000):08d}"
        name = f"img/WOMEN/Dresses/{item}/0{k}_1_front.jpg"
        draw(root / "Img" / name, (part, label, k))
        lines.append(f"{name} {item} {'train' if part == 'train' else ('query', 'gallery')[k]}\n")
    table = root / "Eval" / "list_eval_partition.txt"
    table.parent.mkdir()
    table.write_text(f"{len(lines)}\nimage_name item_id evaluation_status\n" + "".join(lines))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "cub": cub,
    "cars": cars,
    "sop": sop,
    "inshop": inshop,
}
