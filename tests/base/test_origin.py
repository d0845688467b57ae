"""`--force` replaces outputs that have their own mark, and no other file."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pyarrow import parquet
from safetensors.numpy import save_file

from gsp_deploy.base.files import refuse_inputs_inside, refuse_overwrite
from gsp_deploy.base.folders import stranger
from gsp_deploy.base.origin import MARK, made_here
from gsp_deploy.errors import UsageError
from gsp_deploy.images.marked import save_picture
from gsp_deploy.retrieval.embedding import EmbeddingTable, write_table

SUFFIXES = (
    ".onnx", ".safetensors", ".engine", ".plan", ".json", ".npy", ".npz", ".parquet", ".png",
    ".jpg", ".html", ".md", ".txt", ".data", ".other",
)  # fmt: skip
PICTURE = Image.new("RGB", (8, 8), "red")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_somebody_else_is_never_replaced_and_force_not_advised(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"notes{suffix}"
    path.write_text("my own words on gsp-deploy and gsp_deploy")
    for force in (False, True):
        with pytest.raises(UsageError, match="did not make it; choose another name") as caught:
            refuse_overwrite(path, force)
        assert "--force" not in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "broken link", "pipe"])
def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out.png"
    {
        "folder": path.mkdir,
        "broken link": lambda: path.symlink_to("nowhere"),
        "pipe": lambda: os.mkfifo(path),
    }[kind]()
    with pytest.raises(UsageError, match="did not make it"):
        refuse_overwrite(path, force=True)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG"])
def test_pictures_bear_a_mark_and_photographs_do_not(tmp_path: Path, name: str) -> None:
    save_picture(PICTURE, tmp_path / name)
    assert made_here(tmp_path / name)
    PICTURE.save(tmp_path / name)
    assert not made_here(tmp_path / name)


def test_tables_are_known_by_what_belongs_to_them(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.zeros(3))
    assert not made_here(tmp_path / "t.npy")
    (tmp_path / "t.ids.txt").write_text("a\n")
    assert made_here(tmp_path / "t.npy")
    assert made_here(tmp_path / "t.ids.txt")
    for suffix in (".npz", ".parquet"):
        path = tmp_path / f"t{suffix}"
        write_table(EmbeddingTable(("a",), np.zeros((1, 3), np.float32)), path)
        assert made_here(path)
    np.savez(tmp_path / "t.npz", ids=np.array(["a"]), embeddings=np.zeros((1, 3)))
    assert not made_here(tmp_path / "t.npz")
    parquet.write_table(arrow.table({"text": [f"a page {MARK}", "gsp_deploy"]}), path)
    assert not made_here(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("invoice.json", '{"document": "invoice 7", "total": 3}'),
        ("study.json", '{"pooling_form": "sum", "format": "letter"}'),
        ("list.json", '[["document", "version"]]'),
        ("deep.json", "[" * 100_000),
        ("page.html", f"<p>A chart {MARK} is in the appendix.</p>"),
        ("notes.md", f"This page was {MARK}."),
    ],
)
def test_words_that_only_look_like_a_mark_protect_the_file(
    name: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    assert not made_here(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_caption_is_no_mark(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    texts = PngInfo()
    texts.add_text("Description", f"a screen with pages {MARK}")
    PICTURE.save(path, pnginfo=texts, comment=f"a page {MARK}".encode())
    assert not made_here(path)


def test_checkpoints_are_known_by_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_file({"gsp_deploy": np.zeros(3)}, path)
    assert not made_here(path)
    save_file({"w": np.zeros(3)}, path, metadata={"gsp_deploy": "{}"})
    assert made_here(path)
    path.write_bytes(b"\xff" * 40)
    assert not made_here(path)


@pytest.mark.parametrize("metadata", ["null", "5", '"gsp_deploy"', '["gsp_deploy"]', "[" * 100_000])
def test_a_damaged_checkpoint_is_not_replaced(metadata: str, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    header = f'{{"__metadata__": {metadata}}}'.encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert not made_here(path)


def test_models_and_their_parts_are_known_by_the_manifest(tmp_path: Path) -> None:
    for name in ("m.onnx", "m.onnx.data", "m.engine"):
        (tmp_path / name).write_bytes(b"\x08\x01 weights")
        assert not made_here(tmp_path / name)
    for name in ("m.onnx", "m.engine"):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"format": 1, "pooling_form": "unrolled"})
        )
    for name in ("m.onnx", "m.onnx.data", "m.engine", "m.onnx.json"):
        assert made_here(tmp_path / name)
    (tmp_path / "n.onnx").write_bytes(b"\x08\x01 gsp_deploy.manifest")
    assert made_here(tmp_path / "n.onnx")


def test_pages_and_empty_files(tmp_path: Path) -> None:
    (tmp_path / "p.html").write_text(f'<meta name="generator" content="{MARK}">')
    (tmp_path / "e.npy").touch()
    assert made_here(tmp_path / "p.html")
    assert made_here(tmp_path / "e.npy")
    with pytest.raises(UsageError, match="pass --force to replace it"):
        refuse_overwrite(tmp_path / "e.npy", force=False)
    refuse_overwrite(tmp_path / "e.npy", force=True)
    refuse_overwrite(tmp_path / "absent", force=False)


def test_inputs_in_the_place_of_the_output(tmp_path: Path) -> None:
    image = tmp_path / "photos" / "deep" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(io.BytesIO().getvalue())
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for place in (tmp_path / "photos", tmp_path, tmp_path / "link", image.parent):
        with pytest.raises(UsageError, match="is inside the output folder"):
            refuse_inputs_inside(place, [image])
    with pytest.raises(UsageError, match="is also an input"):
        refuse_inputs_inside(tmp_path / "link" / "deep" / "1.png", [image])
    refuse_inputs_inside(tmp_path / "maps", [image])


def test_a_stranger_among_known_names(tmp_path: Path) -> None:
    for name in ("index.json", ".index.json.abcdefgh"):
        (tmp_path / name).touch()
    assert stranger(tmp_path, ["index.json"]) is None
    (tmp_path / "holiday.jpg").touch()
    assert stranger(tmp_path, ["index.json"]) == "holiday.jpg"
