"""Make a folder of valid and damaged files, and run commands on it in this process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import struct
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from foreign_onnx import foreign_onnx
from PIL import Image

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec, load_checkpoint
from gsp_deploy.bundle.packaging import package_model
from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.export import Calibration, ExportOptions, export_onnx
from gsp_deploy.model import feature_channels
from gsp_deploy_cli import main as frame

SIDE = 32
EXIF_ORIENTATION = 0x0112
RECIPE = """
[model]
backbone = "small_cnn_s8"
backbone_options = { width = 4 }
[head]
kind = "gsp"
embedding_dim = 8
[gsp]
num_prototypes = 4
[preprocessing]
height = 16
width = 16
[data]
spec = "folder:SPEC"
[loss]
kind = "proxy-anchor"
[sampler]
batch_size = 4
images_per_class = 2
[optimiser]
lr = 0.003
[run]
steps = 2
tensorboard = false
threads = 1
device = "cpu"
"""


@dataclass(frozen=True)
class Ran:
    """A finished command: exit code, stdout, stderr; `leaked` names an uncaught exception."""

    code: int
    out: str
    err: str
    leaked: str | None = None

    @property
    def error(self) -> str:
        """The error line without Typer's box, or an empty text."""
        lines = self.err.splitlines()
        boxed = " ".join(line.strip("│ ") for line in lines if line.startswith("│"))
        return next((line for line in lines if line.startswith("error: ")), boxed)


def run_here(*arguments: object) -> Ran:
    """Run the command line in this process, which saves the time to start a new one."""
    out, err = io.StringIO(), io.StringIO()
    before, code, leaked = sys.argv, 0, None
    sys.argv = ["gsp-deploy", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            frame.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except Exception as error:
        code, leaked = -1, f"{type(error).__name__}: {error}"
    finally:
        sys.argv = before
    return Ran(code, out.getvalue(), err.getvalue(), leaked)


def make_workshop(folder: Path) -> Path:
    """Fill a folder with models, a bundle, images of every kind and recipes; return it."""
    torch.manual_seed(0)
    _models(folder)
    _images(folder / "images")
    _texts(folder)
    _sources(folder / "sources")
    (folder / "empty").mkdir()
    for name in ("folder.onnx", "folder.safetensors", "folder.json", "folder.toml"):
        (folder / name).mkdir()
    made = run_here(
        "index", folder / "model.onnx", folder / "images/names", "-o", folder / "gallery"
    )
    assert made.code == 0, made
    _damage_folders(folder)
    return folder


def make_head(folder: Path) -> dict[str, Path]:
    """Write a small head alone as checkpoint, state dict and ONNX."""
    torch.manual_seed(0)
    model = EmbeddingModel(ModelConfig("features", GSPConfig(6, 5, 4, solver="newton"), None))
    checkpoint, onnx = folder / "head.safetensors", folder / "head.onnx"
    state = folder / "head.pt"
    save_checkpoint(model, checkpoint)
    torch.save(model.state_dict(), state)
    maps = np.abs(np.random.default_rng(0).standard_normal((4, 6, 3, 4))).astype(np.float32)
    export_onnx(model.eval(), onnx, ExportOptions(iterations=2), Calibration(maps, "4 maps", None))
    return {"checkpoint": checkpoint, "state-dict": state, "onnx": onnx, "onnx-inspection": onnx}


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, including hidden ones."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def failing_writes(number: int) -> Iterator[None]:
    """Let every flush to the disk fail with a system error, such as ENOSPC."""
    flush: Callable[[int], None] = os.fsync

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    os.fsync = fail
    try:
        yield
    finally:
        os.fsync = flush


def _models(folder: Path) -> None:
    spec = PreprocessingSpec(SIDE, SIDE)
    channels = feature_channels("small_cnn_s8", {"width": 4}, spec)
    head = GSPConfig(channels, embedding_dim=8, num_prototypes=4, solver="newton")
    config = ModelConfig("small_cnn_s8", head, spec, backbone_options={"width": 4})
    save_checkpoint(EmbeddingModel(config), folder / "model.safetensors")
    model = load_checkpoint(folder / "model.safetensors")
    torch.save(model.state_dict(), folder / "model.pt")
    torch.save(model.head.state_dict(), folder / "head.pt")
    export_onnx(model, folder / "model.onnx", ExportOptions(iterations=2))
    package_model(folder / "model.onnx", folder / "bundle")
    _damaged(folder / "model.onnx", ".onnx")
    _damaged(folder / "model.safetensors", ".safetensors")
    (folder / "flipped.onnx.json").write_bytes((folder / "model.onnx.json").read_bytes())
    with torch.no_grad():
        model.head.embed.weight[0, 0] = torch.nan
    save_checkpoint(model, folder / "nan.safetensors")
    foreign_onnx(folder / "any.onnx")
    (folder / "orphan.engine").write_bytes(b"a plan of no TensorRT")


def _damaged(sound: Path, suffix: str) -> None:
    """Write damaged variants of a valid file: cut in half, one bit flipped, empty, text."""
    content = sound.read_bytes()
    flipped = bytearray(content)
    flipped[-len(content) // 3] ^= 4
    copies = {
        "truncated": content[: len(content) // 2],
        "flipped": bytes(flipped),
        "nothing": b"",
        "text": b"no model at all\n",
    }
    for name, copy in copies.items():
        sound.with_name(f"{name}{suffix}").write_bytes(copy)


def _damage_folders(folder: Path) -> None:
    """Write a bundle and a gallery with one changed byte, and a bundle with a linked folder."""
    for kind, name in (("bundle", "model.onnx"), ("gallery", "index.faiss")):
        damaged = Path(shutil.copytree(folder / kind, folder / f"damaged-{kind}"))
        content = bytearray((damaged / name).read_bytes())
        content[-1] ^= 1
        (damaged / name).write_bytes(content)
    linked = Path(shutil.copytree(folder / "bundle", folder / "linked-bundle"))
    shutil.rmtree(linked / "golden")
    (linked / "golden").symlink_to(folder / "bundle" / "golden")


def _images(folder: Path) -> None:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    for name in ("plain", "with space", "straße 図 🎏", "-dash", "[bracket]"):
        _put(folder / "names" / f"{name}.png", image)
    for kind in "abcdefgh":
        for number in range(4):
            noise = draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            _put(folder / "classes" / kind / f"{number}.png", Image.fromarray(noise))
    kinds = folder / "kinds"
    _put(kinds / "cmyk.jpg", image.convert("CMYK"))
    _put(kinds / "grey.png", image.convert("L"))
    _put(kinds / "palette.png", image.convert("P"))
    _put(kinds / "transparent.png", image.convert("RGBA"))
    _put(kinds / "one pixel.png", image.resize((1, 1)))
    _put(kinds / "line.png", image.resize((4000, 1)))
    Image.fromarray(draw.integers(0, 65536, (30, 40), dtype=np.uint16)).save(kinds / "16-bit.png")
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    image.save(kinds / "rotated.jpg", exif=exif)
    others = [image.rotate(angle) for angle in (90, 180)]
    image.save(kinds / "animated.webp", save_all=True, append_images=others)
    image.save(kinds / "animated.png", save_all=True, append_images=others)
    broken = folder / "broken"
    broken.mkdir()
    (broken / "zero bytes.png").write_bytes(b"")
    (broken / "text.jpg").write_text("no image at all\n")
    (broken / "108 megapixels.png").write_bytes(_png_announcing(12_000, 9_000))
    (broken / "4 gigapixels.png").write_bytes(_png_announcing(65_535, 65_535))
    whole = (folder / "names" / "plain.png").read_bytes()
    (broken / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (broken / "folder.png").mkdir()


def _put(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _png_announcing(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header announces that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _sources(folder: Path) -> None:
    """Write containers and lists of images that are damaged."""
    folder.mkdir()
    for name in ("text.tar", "text.parquet", "text.arrow"):
        (folder / name).write_text("no container " * 100)
    with tarfile.open(folder / "cut.tar", "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = 5000
        archive.addfile(member, io.BytesIO(bytes(5000)))
    (folder / "cut.tar").write_bytes((folder / "cut.tar").read_bytes()[:3000])
    (folder / "no images.csv").write_text("label,size\n1,2\n")
    pyarrow.parquet.write_table(pyarrow.table({"label": [1, 2]}), folder / "no images.parquet")
    for name in ("gone.txt", "t.ids.txt"):
        (folder / name).write_text("gone 1.png\ngone 2.png\n")


def _texts(folder: Path) -> None:
    texts = {
        "list.json": "[]",
        "deep.json": "[" * 100_000,
        "deep.engine.json": '{"a":' * 100_000,
        "escape.json": json.dumps({"format": "\x1b[2J\n"}),
        "broken.toml": "steps = [",
        "deep.toml": "a = " + "[" * 100_000,
        "zero.toml": 'extends = "a\\u0000b"',
        "circle.toml": 'extends = "circle.toml"',
        "unknown.toml": '"a\\nb" = 1',
        "binary.toml": "\x00\x01",
        "recipe.toml": RECIPE.replace("SPEC", str(folder / "images" / "classes")),
        "nothing.toml": RECIPE.replace("SPEC", str(folder / "empty")),
        "binary.csv": "\x00\x1b[2J,\x07\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
