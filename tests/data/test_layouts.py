"""Data sets in mirrors are found below their wrapper folders, or the error describes the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gsp_deploy.data import open_dataset
from gsp_deploy.errors import DataError

PutImage = Callable[[str], Path]
KINDS = ("cub", "cars", "sop", "inshop")


def test_products_are_found_below_two_wrappers(tmp_path: Path, put_image: PutImage) -> None:
    root = "archive/Stanford_Online_Products"
    rows = {"train": "1 1 1 bicycle_final/1_0.JPG", "test": "2 11319 1 bicycle_final/2_0.JPG"}
    for part, row in rows.items():
        put_image(f"{root}/{row.split()[3]}")
        header = "image_id class_id super_class_id path\n"
        (tmp_path / root / f"Ebay_{part}.txt").write_text(f"{header}{row}\n")
    assert len(open_dataset(f"sop:{tmp_path}").test) == 1


@pytest.mark.parametrize(
    ("table", "images"),
    [
        ("Eval/list_eval_partition.txt", "Img"),
        ("In-shop Clothes Retrieval Benchmark/Eval/list_eval_partition.txt", "Img"),
        ("In-shop Clothes Retrieval Benchmark/Anno/list_eval_partition.txt", ""),
        ("in-shop/list_eval_partition.txt", "Img"),
    ],
)
def test_in_shop_is_found_in_the_layouts_of_its_mirrors(
    tmp_path: Path, put_image: PutImage, table: str, images: str
) -> None:
    rows = [f"img/MEN/id_1/{number}.jpg id_1 {part}" for number, part in
            enumerate(("train", "query", "gallery"))]  # fmt: skip
    path = tmp_path / table
    path.parent.mkdir(parents=True)
    path.write_text("3\nimage_name item_id evaluation_status\n" + "\n".join(rows) + "\n")
    root = path.parent.parent if path.parent.name in ("Eval", "Anno") else path.parent
    for row in rows:
        put_image(str((root / images / row.split()[0]).relative_to(tmp_path)))
    dataset = open_dataset(f"inshop:{tmp_path}")
    assert dataset.query is not None
    assert dataset.query.ids == ("img/MEN/id_1/1.jpg",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_a_hub_is_named(kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"is missing; expected .* There are tables of a data set"):
        open_dataset(f"{kind}:{tmp_path}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", ["", "train/", "images/"])
def test_a_folder_per_class_is_named(
    kind: str, inside: str, tmp_path: Path, put_image: PutImage
) -> None:
    for name in ("001.A", "002.B"):
        put_image(f"{inside}{name}/1.jpg")
    with pytest.raises(DataError, match=r"There is a folder per class in .*: read it as folder:"):
        open_dataset(f"{kind}:{tmp_path}")


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_still_packed_is_named(kind: str, tmp_path: Path) -> None:
    (tmp_path / "images.tgz").write_bytes(b"")
    with pytest.raises(DataError, match=r"There is the archive images\.tgz: unpack it first"):
        open_dataset(f"{kind}:{tmp_path}")
