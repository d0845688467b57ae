from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gsp_deploy.data import open_dataset
from gsp_deploy.data.folders import read_csv, read_folder
from gsp_deploy.errors import DataError
from gsp_deploy.images.files import find_images

PutImage = Callable[[str], Path]


def test_the_first_half_of_the_class_folders_trains(tmp_path: Path, put_image: PutImage) -> None:
    for name in ("b/2.png", "b/1.jpg", "a/x.png", "d/y.png", "c/deep/z.PNG"):
        put_image(name)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".cache").mkdir()
    dataset = read_folder(tmp_path)
    assert dataset.train.class_names == ("a", "b")
    assert dataset.train.ids == ("a/x.png", "b/1.jpg", "b/2.png")
    assert dataset.train.labels.tolist() == [0, 1, 1]
    assert dataset.test.class_names == ("c", "d")
    assert dataset.test.ids == ("c/deep/z.PNG", "d/y.png")
    assert dataset.test.image(0).size == (6, 4)
    assert dataset.notes == (
        "passed over 2 files: 1 .txt, 1 hidden; 1 folder: 1 .cache",
        "3 class(es) have one image, so it has no match: a, c, d",
    )


def test_copies_in_hidden_and_system_folders_are_no_images_of_a_class(
    tmp_path: Path, put_image: PutImage
) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        put_image(name)
        folder, file = name.split("/")
        for hidden in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "lost+found"):
            put_image(f"{folder}/{hidden}/{file}")
    put_image("@eaDir/a/1.png")
    put_image("loose.png")
    dataset = read_folder(tmp_path)
    assert dataset.train.ids == ("cat/1.png", "cat/2.png")
    assert dataset.test.ids == ("dog/1.png", "dog/2.png")
    assert dataset.notes == (
        "passed over 9 folders: 3 @eaDir, 2 .ipynb_checkpoints, 2 __MACOSX, 2 lost+found",
        "1 image not used: outside the class folders of the data set",
    )


def test_the_readers_of_folders_find_the_same_images(tmp_path: Path, put_image: PutImage) -> None:
    for name in ("b/1.png", "b/.x/2.png", "a/deep/@eaDir/3.png", "a/deep/4.png", "a/.5.png"):
        put_image(name)
    put_image("elsewhere.png").rename(tmp_path.parent / "linked.png")
    (tmp_path / "a" / "6.png").symlink_to(tmp_path.parent / "linked.png")
    (tmp_path / "c").symlink_to(tmp_path / "a")  # entered already: its images come once
    dataset = read_folder(tmp_path)
    found = [file.relative_to(tmp_path).as_posix() for file in find_images([tmp_path])]
    assert found == ["a/6.png", "a/deep/4.png", "b/1.png"]
    assert [*dataset.train.ids, *dataset.test.ids] == found


def test_where_nobody_trains_all_images_of_a_plain_folder_are_tested(
    tmp_path: Path, put_image: PutImage
) -> None:
    for name in ("a/1.png", "b/2.png", "c/3.png", "c/4.png"):
        put_image(name)
    judged = read_folder(tmp_path).for_evaluation()
    assert len(judged.train) == 0
    assert judged.test.ids == ("a/1.png", "b/2.png", "c/3.png", "c/4.png")
    assert judged.test.labels.tolist() == [0, 1, 2, 2]
    assert judged.test.class_names == ("a", "b", "c")
    assert "no train and test parts are named, so every image is tested" in judged.notes


def test_named_parts_stay_where_nobody_trains(tmp_path: Path, put_image: PutImage) -> None:
    for name in ("train/a/1.png", "test/b/1.png", "extra/c/1.png"):
        put_image(name)
    judged = read_folder(tmp_path).for_evaluation()
    assert judged.test.ids == ("test/b/1.png",)
    assert "1 image not used: outside the class folders of the parts train, test" in judged.notes


def test_of_a_single_class_all_images_test(tmp_path: Path, put_image: PutImage) -> None:
    put_image("only/1.png")
    put_image("only/2.png")
    dataset = read_folder(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (0, 2)


@pytest.mark.parametrize("held_out", ["test", "val", "validation"])
def test_sub_trees_are_the_parts(tmp_path: Path, put_image: PutImage, held_out: str) -> None:
    for name in ("train/a/1.png", "train/a/2.png", f"{held_out}/b/1.png", f"{held_out}/b/2.png"):
        put_image(name)
    dataset = read_folder(tmp_path)
    assert dataset.train.ids == ("train/a/1.png", "train/a/2.png")
    assert dataset.test.ids == (f"{held_out}/b/1.png", f"{held_out}/b/2.png")
    assert dataset.notes == ()


def test_a_test_tree_comes_before_a_validation_tree(tmp_path: Path, put_image: PutImage) -> None:
    for name in ("train/a/1.png", "val/b/1.png", "test/c/1.png"):
        put_image(name)
    assert read_folder(tmp_path).test.class_names == ("c",)


def test_a_test_tree_alone_is_for_evaluation_only(tmp_path: Path, put_image: PutImage) -> None:
    for name in ("test/a/1.png", "test/b/2.png"):
        put_image(name)
    dataset = read_folder(tmp_path)
    assert len(dataset.train) == 0
    assert dataset.test.class_names == ("a", "b")


def test_a_gallery_is_searched_with_queries(tmp_path: Path, put_image: PutImage) -> None:
    for name in ("train/a/1.png", "query/b/1.png", "gallery/b/2.png", "gallery/c/3.png"):
        put_image(name)
    dataset = read_folder(tmp_path)
    assert dataset.query is not None
    assert dataset.gallery is not None
    assert dataset.query.class_names == dataset.gallery.class_names == ("b", "c")
    assert dataset.query.labels.tolist() == [0]
    assert dataset.gallery.labels.tolist() == [0, 1]
    assert len(dataset.test) == 3


def test_classes_in_both_parts_are_noted(tmp_path: Path, put_image: PutImage) -> None:
    for name in ("train/a/1.png", "train/a/2.png", "test/a/3.png", "test/a/4.png"):
        put_image(name)
    (note,) = read_folder(tmp_path).notes
    assert note.startswith("not a zero-shot split: 1 class(es)")


def test_a_folder_without_class_folders_says_what_it_should_be(
    tmp_path: Path, put_image: PutImage
) -> None:
    put_image("loose.png")
    with pytest.raises(DataError, match="expected a folder per class"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_folder(tmp_path / "absent")
    with pytest.raises(DataError, match="is a file"):
        read_folder(tmp_path / "loose.png")


def write_csv(tmp_path: Path, text: str) -> Path:
    table = tmp_path / "list.csv"
    table.write_text(text, encoding="utf-8")
    return table


def test_a_csv_gives_paths_labels_and_splits(tmp_path: Path, put_image: PutImage) -> None:
    absolute = put_image("x/1.png")
    put_image("x/2.png")
    put_image("y, z/3.png")
    table = write_csv(
        tmp_path,
        f'\ufefflabel,extra,path,split\ncat,1,{absolute},train\ndog,,"y, z/3.png",Test\n'
        "cat,,x/2.png,val\n",
    )
    dataset = read_csv(table)
    assert dataset.name == "list"
    assert dataset.train.ids == (str(absolute),)
    assert dataset.test.ids == ("y, z/3.png",)
    assert dataset.test.class_names == ("dog",)
    assert dataset.train.image(0).size == dataset.test.image(0).size == (6, 4)
    assert "the val rows are not used: there are test rows" in dataset.notes


def test_a_csv_without_splits_trains_on_the_first_half(tmp_path: Path, put_image: PutImage) -> None:
    for name in ("1.png", "2.png"):
        put_image(name)
    dataset = open_dataset(str(write_csv(tmp_path, "path,label\n1.png,b\n2.png,a\n")))
    assert dataset.train.class_names == ("a",)
    assert dataset.test.ids == ("1.png",)


def test_only_validation_rows_become_the_test_part(tmp_path: Path, put_image: PutImage) -> None:
    put_image("1.png")
    dataset = read_csv(write_csv(tmp_path, "path,label,split\n1.png,a,val\n"))
    assert dataset.test.ids == ("1.png",)
    assert len(dataset.train) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n1.png,a\n", "expected the columns path,label,split .* got file,label"),
        ("", "got nothing"),
        ("path,label\n", "no image is listed"),
        ("path,label\n1.png,\n", "line 2: expected a path and a label"),
        ("path,label,split\n1.png,a,dev\n", "line 2: expected a split of .* got 'dev'"),
        ("path,label,split\n1.png,a,query\n", "expected a query and a gallery part"),
        ("path,label\n1.png,a\n1.png,b\n", r"1\.png is listed twice"),
    ],
)
def test_a_csv_that_is_not_one_is_refused_by_line(
    tmp_path: Path, put_image: PutImage, text: str, message: str
) -> None:
    put_image("1.png")
    with pytest.raises(DataError, match=message):
        read_csv(write_csv(tmp_path, text))


def test_a_csv_in_another_encoding_and_a_missing_one(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_bytes("path,label\ncafé.png,é\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_csv(table)
    with pytest.raises(DataError, match="does not exist"):
        read_csv(tmp_path / "absent.csv")


def test_listed_images_that_are_missing_are_counted_and_named(
    tmp_path: Path, put_image: PutImage
) -> None:
    put_image("0.png")
    table = write_csv(
        tmp_path, "path,label,split\n" + "".join(f"{i}.png,a,test\n" for i in range(6))
    )
    with pytest.raises(DataError, match=r"5 of 6 .* missing: 1\.png, 2\.png, 3\.png and 2 more"):
        read_csv(table)
    dataset = read_csv(table, strict=False)
    assert dataset.test.ids == ("0.png",)
    assert dataset.notes[0].endswith("they are left out")


def test_a_csv_that_is_a_link_lists_images_beside_the_link(
    tmp_path: Path, put_image: PutImage
) -> None:
    """As in a download cache, and as in the lists of `embed`."""
    put_image("snapshot/0.png")
    (tmp_path / "blob").write_text("path,label\n0.png,a\n")
    link = tmp_path / "snapshot" / "list.csv"
    link.symlink_to(tmp_path / "blob")
    dataset = read_csv(link)
    assert dataset.name == "list"
    assert dataset.test.ids == ("0.png",)


def test_nothing_is_left_to_read_even_leniently(tmp_path: Path) -> None:
    table = write_csv(tmp_path, "path,label\nabsent.png,a\n")
    with pytest.raises(
        DataError, match=r"none of the 1 listed images is there.*first one at /.*/absent\.png"
    ):
        read_csv(table, strict=False)
