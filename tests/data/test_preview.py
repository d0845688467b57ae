from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gsp_deploy.data import open_dataset
from gsp_deploy.data.preview import contact_sheet, write_contact_sheet
from gsp_deploy.data.writing import write_tree
from gsp_deploy.errors import DataError, GspDeployError, UsageError
from gsp_deploy_cli.data import app

SPEC = "glyphs:train_classes=5,test_classes=3,images_per_class=4,size=64,scale=0.4"
PutImage = Callable[[str], Path]


def test_a_sheet_shows_whole_rows_of_a_class() -> None:
    images = open_dataset(SPEC).train
    sheet = np.asarray(contact_sheet(images, count=9, tile=64))
    tile = 64 + 4
    assert sheet.shape[1] == 3 * tile + 4
    assert sheet.shape[0] == 3 * (tile + 16) + 4
    # Classes 0, 2, 4 of five, and images 0, 2 (rounded from 1.5), 3 of four.
    first = np.asarray(images.image(0))
    last = np.asarray(images.image(4 * 4 + 3))
    assert np.array_equal(sheet[20:84, 4:68], first)
    assert np.array_equal(sheet[-68:-4, -68:-4], last)
    assert sheet[4:20].min() < 128  # the caption is written


def test_a_sheet_is_the_same_each_time_and_fits_images_of_any_shape(put_image: PutImage) -> None:
    root = put_image("a/1.png").parent.parent
    Image.new("RGB", (300, 20), "red").save(put_image("b/wide.png"))
    Image.new("RGB", (2, 90), "blue").save(put_image("b/tall.png"))
    images = open_dataset(str(root)).test
    sheet = contact_sheet(images, count=4, tile=50)
    assert sheet.tobytes() == contact_sheet(images, count=4, tile=50).tobytes()
    colours = {colour for _, colour in sheet.getcolors(100_000)}
    assert {(255, 0, 0), (0, 0, 255)} <= colours


def test_no_image_no_sheet(put_image: PutImage, tmp_path: Path) -> None:
    dataset = open_dataset(str(put_image("only/1.png").parent.parent))
    with pytest.raises(DataError, match="no images to show"):
        contact_sheet(dataset.train)
    with pytest.raises(UsageError, match=r"named \.png or \.jpg, got 'sheet.gif'"):
        write_contact_sheet(dataset.test, tmp_path / "sheet.gif")


def test_a_written_tree_is_read_back_as_it_was(tmp_path: Path) -> None:
    dataset = open_dataset(SPEC)
    seen = []
    write_tree(dataset, tmp_path / "tree", on_image=lambda: seen.append(1))
    again = open_dataset(f"folder:{tmp_path / 'tree'}")
    assert len(seen) == 5 * 4 + 3 * 4
    for part, copy in zip(dataset.parts.values(), again.parts.values(), strict=True):
        assert copy.ids == part.ids
        assert copy.class_names == part.class_names
        assert copy.labels.tolist() == part.labels.tolist()
        for index in range(0, len(part), 5):
            assert np.array_equal(np.asarray(copy.image(index)), np.asarray(part.image(index)))


def test_a_tree_is_written_whole_or_not_at_all(tmp_path: Path, put_image: PutImage) -> None:
    dataset = open_dataset(SPEC)

    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(GspDeployError, match="No space left on device; nothing was replaced"):
        write_tree(dataset, tmp_path / "tree", on_image=full)
    assert not any(tmp_path.iterdir())
    occupied = put_image("files/a/1.png").parent.parent
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        write_tree(dataset, occupied)
    with pytest.raises(UsageError, match="which is files"):
        write_tree(open_dataset(str(occupied)), tmp_path / "copy")


def test_the_list_as_json_is_one_document() -> None:
    result = CliRunner().invoke(app, ["list", "--json"])
    document = json.loads(result.stdout)
    assert document["version"] == 1
    assert {"glyphs", "cub", "folder"} <= {kind["name"] for kind in document["kinds"]}
    assert all(kind["needs"] and kind["recall_ranks"] for kind in document["kinds"])


def test_the_list_for_people_names_every_form() -> None:
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    for word in ("glyphs[:clutter=3", "cub:PATH", "dataset-fashion-mnist", "R@{1,10,20,30}"):
        assert word in result.stdout


def test_preview_writes_a_sheet_and_does_not_replace_one_unasked(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    command = ["preview", SPEC, "-o", str(sheet), "--part", "test", "--count", "4"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "12 images of 3 classes" in result.stdout
    assert Image.open(sheet).width > 2 * 112
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, UsageError)
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    wrong = CliRunner().invoke(app, ["preview", SPEC, "-o", str(tmp_path / "x.png"), "--part", "q"])
    assert isinstance(wrong.exception, UsageError)


def test_write_makes_a_tree_that_says_how_to_read_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["write", SPEC, "-o", str(tmp_path / "tree")])
    assert result.exit_code == 0, result.output
    assert "read it with" in result.stdout
    assert len(list((tmp_path / "tree/test").rglob("*.png"))) == 12
