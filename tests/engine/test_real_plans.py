"""Real TensorRT-RTX plans of every form of export, built where there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.engine_manifest import EngineManifest, check_plan, read_engine_sidecar
from gsp_deploy.base.files import sha256_of
from gsp_deploy.config import BaselineConfig
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.build import build_engine
from gsp_deploy.engine.network import parse_onnx
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.profiles import SizeRange, parse_size
from gsp_deploy.errors import GspDeployError
from gsp_deploy.export import ExportOptions, default_calibration, export_onnx

NEWTON = {"solver": "newton", "iterations": 4}
PAPER = {"solver": "fixed-point", "iterations": 100}
BOTH = ("8.6", "12.0")
FORMS = {
    "fp32": {},
    "fp16": {"precision": "fp16"},
    "bf16": {"precision": "bf16"},
    "static": {"dynamic_batch": False},
    "fp16 inside and out": {"precision": "fp16", "io_precision": "fp16"},
    "pixels": {"include_preprocessing": True},
    "all outputs": {"outputs": ("attributes", "weights")},
    "any size": {"dynamic_size": True},
}
SIZES = {"in_channels": 32, "embedding_dim": 16}
HEADS = [
    *(
        GSPConfig(**SIZES, num_prototypes=8, pooling=pooling, max_residual=residual)
        for pooling in ("gap", "gmp", "gem")
        for residual in (False, True)
    ),
    *(BaselineConfig(**SIZES, pooling=pooling) for pooling in ("gap", "gmp", "gem", "gap+gmp")),
]


def _mode(head: GSPConfig | BaselineConfig) -> str:
    if isinstance(head, BaselineConfig):
        return f"{head.pooling} baseline"
    return f"{head.pooling} with max residual" if head.max_residual else head.pooling


def build(onnx: Path, folder: Path, *targets: str, **options: object) -> Artifact[EngineManifest]:
    return build_engine(onnx, folder / "model.engine", BuildOptions(targets=targets, **options))


@pytest.mark.parametrize("form", FORMS)
def test_resnet18_builds_in_every_form(form: str, exported, rtx: TensorRT, tmp_path: Path) -> None:
    onnx = exported("resnet18", **FORMS[form])
    built = build(onnx, tmp_path, *BOTH)
    manifest = built.manifest
    check_plan(manifest, built.path)
    assert read_engine_sidecar(built.path) == manifest
    assert manifest.compute_capabilities == BOTH
    assert manifest.onnx_sha256 == sha256_of(onnx)
    assert manifest.export is not None
    assert [spec.shape for spec in manifest.inputs] == [s.shape for s in manifest.export.inputs]
    assert [spec.name for spec in manifest.outputs] == [s.name for s in manifest.export.outputs]
    assert manifest.precision.asked == FORMS[form].get("precision", "fp32")
    assert manifest.certificate == manifest.export.certificate
    assert manifest.peak_memory_bytes > manifest.plan_bytes
    assert sum(manifest.precision.layers.values()) == manifest.layers


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet50", {}),
        ("resnet50", {"precision": "fp16"}),
        ("resnet50", {"precision": "bf16"}),
        ("glyphs-lite0", {}),
        ("glyphs-lite0", {"precision": "fp16"}),
        ("glyphs-lite0", {"precision": "bf16"}),
        ("test_efficientnet", {"dynamic_size": True}),
        ("test_convnext", {"dynamic_batch": False}),
    ],
)
def test_other_backbones_build(
    name: str, options: dict[str, object], exported, rtx: TensorRT, tmp_path: Path
) -> None:
    built = build(exported(name, **options), tmp_path, *BOTH)
    assert built.manifest.compute_capabilities == BOTH
    assert built.manifest.precision.asked == options.get("precision", "fp32")
    assert built.path.stat().st_size == built.manifest.plan_bytes


@pytest.mark.parametrize("target", ["7.5", "8.6", "12.0"])
def test_a_single_target_builds(target: str, exported, rtx: TensorRT, tmp_path: Path) -> None:
    built = build(exported("glyphs-lite0"), tmp_path, target)
    assert built.manifest.compute_capabilities == (target,)


@pytest.mark.parametrize("head", HEADS, ids=_mode)
def test_every_pooling_builds_for_turing(
    head: GSPConfig | BaselineConfig, rtx: TensorRT, tmp_path: Path
) -> None:
    """TensorRT-RTX has no float32 matrix product for it: no head may need one."""
    has_transport = isinstance(head, GSPConfig)
    asked = ExportOptions(
        iterations=2 if has_transport else None,
        outputs=("attributes", "weights") if has_transport else (),
    )
    model = EmbeddingModel(ModelConfig("features", head, None)).eval()
    calibration = default_calibration(model.config, 1)
    onnx = export_onnx(model, tmp_path / "head.onnx", asked, calibration).path
    built = build(onnx, tmp_path, "7.5", sizes=(parse_size("7"),))
    assert built.manifest.compute_capabilities == ("7.5",)
    assert [spec.name for spec in built.manifest.outputs] == ["embedding", *asked.outputs]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "glyphs-lite0"])
def test_newtons_head_has_a_third_of_the_papers_layers(name: str, exported, rtx: TensorRT) -> None:
    newton = _head_layers(rtx, exported(name, **NEWTON))
    paper = _head_layers(rtx, exported(name, **PAPER))
    assert 0 < 3 * newton <= paper


@pytest.mark.parametrize("name", ["resnet18", "glyphs-lite0"])
def test_the_papers_hundred_steps_build(name: str, exported, rtx: TensorRT, tmp_path: Path) -> None:
    paper = build(exported(name, **PAPER), tmp_path, "8.6")
    newton = build(exported(name, **NEWTON), tmp_path, "8.6")
    assert newton.manifest.layers < paper.manifest.layers
    assert newton.manifest.plan_bytes < paper.manifest.plan_bytes


def test_half_precision_halves_the_plan(exported, rtx: TensorRT, tmp_path: Path) -> None:
    wide = build(exported("resnet18"), tmp_path, "8.6").manifest
    for precision, dtype in (("fp16", "float16"), ("bf16", "bfloat16")):
        half = build(exported("resnet18", precision=precision), tmp_path, "8.6").manifest
        assert 0.4 < half.plan_bytes / wide.plan_bytes < 0.6
        assert half.precision.layers[dtype] > 40
        assert set(half.precision.kept_in_float32) == {"gsp/product"}
    assert "float16" not in wide.precision.layers


def test_profiles_are_what_was_asked_for(exported, rtx: TensorRT, tmp_path: Path) -> None:
    built = build(
        exported("resnet18", dynamic_size=True),
        tmp_path,
        "8.6",
        batches=(SizeRange(1, 1, 1), SizeRange(4, 8, 16)),
        sizes=(parse_size("64:64:96"),),
    )
    first, second = (profile["images"] for profile in built.manifest.profiles)
    assert (first.min, first.max) == ((1, 3, 64, 64), (1, 3, 96, 96))
    assert (second.min, second.opt, second.max) == ((4, 3, 64, 64), (8, 3, 64, 64), (16, 3, 96, 96))


def test_all_leaves_out_what_cannot_be_built_and_says_so(
    exported, rtx: TensorRT, tmp_path: Path
) -> None:
    """sm_75 knows no bfloat16."""
    lines: list[str] = []
    onnx = exported("glyphs-lite0", precision="bf16")
    built = build_engine(
        onnx, tmp_path / "a.engine", BuildOptions(targets=("all",)), announce=lines.append
    )
    assert set(BOTH) <= set(built.manifest.compute_capabilities)
    assert "7.5" not in built.manifest.compute_capabilities
    assert [line for line in lines if line.startswith("sm_75 is left out: ")]
    assert built.manifest.notes == tuple(lines)


def test_the_plan_is_bare_and_the_manifest_beside_it(
    exported, rtx: TensorRT, tmp_path: Path
) -> None:
    built = build(exported("resnet18"), tmp_path, "8.6")
    assert b"gsp_deploy" not in built.path.read_bytes()[:4096]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.engine", "model.engine.json"]
    assert json.loads((tmp_path / "model.engine.json").read_text())["engine_format"] == 1


def test_progress_grows_to_its_end(exported, rtx: TensorRT, tmp_path: Path) -> None:
    seen: list[tuple[float, str]] = []
    build_engine(
        exported("glyphs-lite0"),
        tmp_path / "a.engine",
        BuildOptions(targets=("8.6",)),
        report=lambda done, phase: seen.append((done, phase)),
    )
    shares = [done for done, _ in seen]
    assert shares == sorted(shares)
    assert len(set(shares)) > 10
    assert 0.5 < shares[-1] <= 1
    assert "Building engine" in {phase for _, phase in seen}


def test_an_interrupt_ends_the_build_and_leaves_nothing(
    exported, rtx: TensorRT, tmp_path: Path
) -> None:
    def interrupt(done: float, phase: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(
            exported("glyphs-lite0"),
            tmp_path / "a.engine",
            BuildOptions(targets=("8.6",)),
            report=interrupt,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_small_workspace_is_named_as_the_reason(exported, rtx: TensorRT, tmp_path: Path) -> None:
    with pytest.raises(GspDeployError, match="1 MiB may be too small: raise --workspace"):
        build(exported("glyphs-lite0"), tmp_path, "8.6", workspace=1 << 20)
    assert list(tmp_path.iterdir()) == []


def test_low_memory_builds_with_less(exported, rtx: TensorRT, tmp_path: Path) -> None:
    built = build(exported("resnet18"), tmp_path, "8.6", low_memory=True)
    assert built.manifest.options["workspace"] == 256 << 20
    assert built.manifest.profiles[0]["images"].max[0] == 8


def _head_layers(rtx: TensorRT, onnx: Path) -> int:
    return sum(layer.name.startswith("gsp/") for layer in parse_onnx(rtx, onnx).layers)
