"""Every image is decoded: broken ones are named and counted, odd ones are noted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from gsp_deploy.data import open_dataset
from gsp_deploy.data.checking import unreadable_images
from gsp_deploy_cli import main as command_line


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Four classes of two images; one image is no image, one is cut short, one class has one."""
    for name in "abcd":
        (tmp_path / name).mkdir()
        for k in range(2):
            Image.new("RGB", (40, 40), (60 * k, 20, 90)).save(tmp_path / name / f"{k}.png")
    (tmp_path / "a" / "1.png").write_bytes(b"no image")
    whole = (tmp_path / "c" / "0.png").read_bytes()
    (tmp_path / "c" / "0.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "d" / "1.png").unlink()
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gsp-deploy", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def test_broken_images_are_named_with_their_part(tree: Path) -> None:
    read = []
    found = unreadable_images(open_dataset(str(tree)), lambda: read.append(1))
    assert [(image.part, image.image) for image in found] == [
        ("train", "a/1.png"),
        ("test", "c/0.png"),
    ]
    assert all(image.image in image.reason for image in found)
    assert len(read) == 7


def test_the_command_counts_names_and_fails(run, tree: Path) -> None:
    code, out, err = run("check", tree)
    assert code == 1
    assert "unreadable  2 images" in out
    assert "train: " in err
    assert "a/1.png" in err
    assert "1 class(es) have one image" in err
    assert err.strip().splitlines()[-1].startswith("error: 2 images of ")
    code, out, _ = run("check", tree, "--json")
    document = json.loads(out)
    assert (code, len(document["unreadable"])) == (1, 2)
    assert document["parts"]["train"] == {"images": 4, "classes": 2}


def test_a_missing_file_is_refused_and_a_whole_set_passes(run, tree: Path) -> None:
    table = tree / "list.csv"
    table.write_text("path,label,split\na/0.png,a,train\nb/9.png,b,train\nb/1.png,b,test\n")
    code, out, err = run("check", table)
    assert (code, out) == (1, "")
    assert "1 of 3 listed images are missing: b/9.png" in err
    table.write_text("path,label,split\na/0.png,a,train\nb/0.png,b,test\nb/1.png,b,test\n")
    assert run("check", table)[0] == 0
