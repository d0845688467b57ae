from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gsp_deploy.data import open_dataset
from gsp_deploy.data.benchmarks import read_cub, read_in_shop, read_products
from gsp_deploy.errors import DataError

PutImage = Callable[[str], Path]


@pytest.fixture
def cub(tmp_path: Path, put_image: PutImage) -> Path:
    root = tmp_path / "CUB_200_2011"
    # The ids are not in the order of the classes, and 99 < 100 only as numbers.
    listed = {
        1: (101, "101.White_Pelican/p.jpg"),
        2: (99, "099.Ovenbird/o.jpg"),
        3: (100, "100.Brown_Pelican/b.jpg"),
        4: (99, "099.Ovenbird/n.jpg"),
        5: (200, "200.Yellowthroat/y.jpg"),
    }
    for _, path in listed.values():
        put_image(f"CUB_200_2011/images/{path}")
    (root / "images.txt").write_text("".join(f"{i} {path}\n" for i, (_, path) in listed.items()))
    (root / "image_class_labels.txt").write_text(
        "".join(f"{i} {c}\n" for i, (c, _) in listed.items())
    )
    return root


def test_cub_trains_on_classes_1_to_100(cub: Path) -> None:
    dataset = read_cub(cub)
    assert dataset.train.class_names == ("099.Ovenbird", "100.Brown_Pelican")
    assert dataset.train.ids == (
        "images/099.Ovenbird/o.jpg",
        "images/099.Ovenbird/n.jpg",
        "images/100.Brown_Pelican/b.jpg",
    )
    assert dataset.test.class_names == ("101.White_Pelican", "200.Yellowthroat")
    assert dataset.recall_ranks == (1, 2, 4, 8)
    assert dataset.train.image(2).size == (6, 4)


def test_the_folder_around_the_archive_will_do(cub: Path) -> None:
    outer, inner = open_dataset(f"cub:{cub.parent}"), open_dataset(f"cub:{cub}")
    assert outer.train.fingerprint() == inner.train.fingerprint()


def test_cub_names_what_is_missing_or_damaged(cub: Path) -> None:
    labels = cub / "image_class_labels.txt"
    whole = labels.read_text()
    labels.write_text(whole.replace("5 200\n", ""))
    with pytest.raises(DataError, match=r"images\.txt \(5 images\) and .* \(4\)"):
        read_cub(cub)
    labels.write_text(whole.replace("5 200", "5 two"))
    with pytest.raises(DataError, match="expected a class number, got 'two'"):
        read_cub(cub)
    labels.write_text(whole.replace("5 200", "5 200 0"))
    with pytest.raises(DataError, match="line 5: expected 2 columns, got 3"):
        read_cub(cub)
    labels.unlink()
    with pytest.raises(DataError, match=r"image_class_labels\.txt is missing; expected CUB_200"):
        read_cub(cub)
    (cub / "images.txt").unlink()
    with pytest.raises(DataError, match=r"images\.txt is missing; expected CUB_200_2011/ with"):
        read_cub(cub)


def test_missing_pictures_are_refused_or_left_out(cub: Path) -> None:
    (cub / "images/200.Yellowthroat/y.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 5 listed images are missing: images/200"):
        open_dataset(f"cub:{cub}")
    dataset = open_dataset(f"cub:{cub}", strict=False)
    assert dataset.test.class_names == ("101.White_Pelican",)
    assert dataset.notes[0].startswith("1 of 5 listed images are missing")


@pytest.fixture
def products(tmp_path: Path, put_image: PutImage) -> Path:
    header = "image_id class_id super_class_id path\n"
    train = ["1 1 1 bicycle_final/11_0.JPG", "2 1 1 bicycle_final/11_1.JPG"]
    test = ["3 11319 1 bicycle_final/22_0.JPG", "4 11320 2 chair_final/33_0.JPG"]
    for row in train + test:
        put_image(row.split()[3])
    (tmp_path / "Ebay_train.txt").write_text(header + "\n".join(train) + "\n")
    (tmp_path / "Ebay_test.txt").write_text(header + "\n".join(test) + "\n")
    return tmp_path


def test_products_have_a_class_an_item(products: Path) -> None:
    dataset = read_products(products)
    assert dataset.train.class_names == ("bicycle_1",)
    assert dataset.train.labels.tolist() == [0, 0]
    assert dataset.test.class_names == ("bicycle_11319", "chair_11320")
    assert dataset.test.ids == ("bicycle_final/22_0.JPG", "chair_final/33_0.JPG")
    assert dataset.recall_ranks == (1, 10, 100, 1000)
    assert "2 test class(es) have one image" in dataset.notes[0]


def test_products_need_both_lists(products: Path) -> None:
    (products / "Ebay_test.txt").unlink()
    with pytest.raises(DataError, match=r"Ebay_test\.txt is missing; expected Stanford"):
        read_products(products)


IN_SHOP_ROWS = (
    "img/MEN/Tees/id_00000007/01_1_front.jpg  id_00000007 query",
    "img/WOMEN/Dresses/id_00000002/02_1_front.jpg    id_00000002 train",
    "img/MEN/Tees/id_00000007/01_2_side.jpg id_00000007 gallery",
    "img/WOMEN/Dresses/id_00000002/02_2_side.jpg id_00000002 train",
    "img/MEN/Tees/id_00000005/01_1_front.jpg id_00000005 gallery",
)


def write_partition(path: Path, rows: tuple[str, ...], promised: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{promised}\nimage_name item_id evaluation_status\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize(
    ("table", "images"),
    [("Eval/list_eval_partition.txt", "Img/"), ("list_eval_partition.txt", "")],
)
def test_in_shop_searches_a_gallery(
    tmp_path: Path, put_image: PutImage, table: str, images: str
) -> None:
    for row in IN_SHOP_ROWS:
        put_image(images + row.split()[0])
    write_partition(tmp_path / table, IN_SHOP_ROWS, 5)
    dataset = read_in_shop(tmp_path)
    assert dataset.query is not None
    assert dataset.gallery is not None
    assert dataset.train.class_names == ("id_00000002",)
    assert dataset.query.ids == ("img/MEN/Tees/id_00000007/01_1_front.jpg",)
    assert [dataset.gallery.class_name(i) for i in range(2)] == ["id_00000005", "id_00000007"]
    assert dataset.query.class_name(0) == "id_00000007"
    assert dataset.query.class_names == dataset.gallery.class_names
    assert dataset.recall_ranks == (1, 10, 20, 30)
    assert dataset.notes == ()
    assert dataset.gallery.image(1).size == (6, 4)


def test_in_shop_notes_queries_that_nothing_can_answer(tmp_path: Path, put_image: PutImage) -> None:
    rows = (IN_SHOP_ROWS[0], *IN_SHOP_ROWS[3:])
    for row in rows:
        put_image(row.split()[0])
    write_partition(tmp_path / "list_eval_partition.txt", rows, 3)
    assert read_in_shop(tmp_path).notes[0] == (
        "1 class(es) have queries but no gallery image: id_00000007"
    )


def test_in_shop_names_what_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Eval/list_eval_partition\.txt is missing"):
        read_in_shop(tmp_path)
    table = tmp_path / "Eval/list_eval_partition.txt"
    write_partition(table, IN_SHOP_ROWS, 52712)
    with pytest.raises(DataError, match=r"from its first line \('52712'\), got 5"):
        read_in_shop(tmp_path)
    write_partition(table, ("img/a.jpg id_1 validation",), 1)
    with pytest.raises(DataError, match=r"expected train, query or gallery .* got 'validation'"):
        read_in_shop(tmp_path)
    table.write_text("")
    with pytest.raises(DataError, match="from its first line"):
        read_in_shop(tmp_path)
