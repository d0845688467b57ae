"""The parsers of text and bytes from elsewhere, each as a function of bytes, and their seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from gsp_deploy import PreprocessingSpec
from gsp_deploy.artifact import ExportManifest, TensorSpec
from gsp_deploy.artifact.bundle_manifest import BundleManifest
from gsp_deploy.artifact.engine_manifest import EngineManifest
from gsp_deploy.checkpoint import parse_header
from gsp_deploy.errors import GspDeployError, RequestError
from gsp_deploy.runtime.session import SessionInfo
from gsp_deploy.serving.infer_request import parse_infer
from gsp_deploy.training.recipe import parse_recipe
from gsp_deploy.training.recipe_files import tomllib

CORPUS = Path(__file__).with_name("corpus")
INFO = SessionInfo(
    path=Path("m.onnx"),
    runtime="onnxruntime",
    device="CPU",
    precision="fp32",
    input=TensorSpec("images", "float32", ("batch", 3, 2, 2)),
    outputs=("embedding", "weights"),
    embedding_dim=4,
    preprocessing=PreprocessingSpec(2, 2),
)


def recipe(data: bytes) -> None:
    """Read a recipe's TOML without the files that it extends."""
    try:
        tables = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        return
    parse_recipe(tables, "recipe.toml")


def infer(data: bytes) -> None:
    """Read a KServe request; the first line is the header with the length of the JSON."""
    head, _, body = data.partition(b"\n")
    parse_infer(body, head.decode(errors="replace") or None, INFO, most_images=64)


def _text(parse: Callable[[str, str], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        parse(data.decode(errors="surrogateescape"), "m.json")

    return target


TARGETS: dict[str, Callable[[bytes], None]] = {
    "checkpoint": _text(parse_header),
    "export": _text(ExportManifest.from_json),
    "engine": _text(EngineManifest.from_json),
    "bundle": _text(BundleManifest.from_json),
    "recipe": recipe,
    "infer": infer,
}


def attempt(name: str, data: bytes) -> None:
    """Read bytes; only a GspDeployError may be raised, in one line that UTF-8 can hold."""
    try:
        TARGETS[name](data)
    except (GspDeployError, RequestError) as error:
        line = str(error)
        assert line, "an error without a message"
        assert "\n" not in line, line
        json.dumps(line)


def corpus_of(name: str) -> Iterator[Path]:
    """Yield the files of a target's corpus, in order."""
    yield from sorted((CORPUS / name).iterdir())
