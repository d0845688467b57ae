"""A float32 export converted to half precision is what an export of that precision would be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from gsp_deploy.artifact import read_sidecar
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.export.conversion import convert_precision
from gsp_deploy.export.onnx_model import export_onnx
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.rewriting import rewrite_pooling
from gsp_deploy.export.twin import write_twin
from gsp_deploy.runtime import open_session

STEPS = 3


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(
    ("precision", "pixels"), [("fp16", False), ("bf16", False), ("fp16", True)]
)
def test_a_converted_file_computes_what_an_export_computes(
    precision: str, pixels: bool, exported, photographs, tmp_path: Path
) -> None:
    settings = {"iterations": STEPS, "opset": 22, "include_preprocessing": pixels}
    wide = exported(**settings)
    expected = exported(precision=precision, **settings)
    found = convert_precision(wide, tmp_path / "m.onnx", precision, photographs).path
    assert operators(found) == operators(expected)
    with open_session(found) as a, open_session(expected) as b:
        inputs = photographs.inputs
        first, second = a.run(inputs), b.run(inputs)
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], atol=2e-2 if precision == "bf16" else 2e-3)


def test_its_manifest_has_the_new_precision_and_a_new_certificate(
    exported, photographs, tmp_path: Path
) -> None:
    wide = exported(iterations=STEPS)
    before = read_sidecar(wide)
    manifest = convert_precision(wide, tmp_path / "m.onnx", "fp16", photographs).manifest
    assert before is not None
    assert before.certificate is not None
    assert manifest.certificate is not None
    assert manifest.precision == "fp16"
    assert manifest.certificate.steps == STEPS
    assert manifest.certificate != before.certificate
    assert manifest.certificate.is_converged
    assert manifest.inputs == before.inputs
    assert read_sidecar(tmp_path / "m.onnx") == manifest


def test_a_converted_file_can_be_rewritten_like_an_export(
    exported, photographs, tmp_path: Path
) -> None:
    path = convert_precision(
        exported(iterations=STEPS), tmp_path / "m.onnx", "fp16", photographs
    ).path
    write_twin(path, tmp_path / "twin.onnx")
    rewrite_pooling(path, tmp_path / "plugin.onnx", "plugin")
    inputs = photographs.inputs
    with open_session(path) as plain, open_session(tmp_path / "plugin.onnx") as folded:
        np.testing.assert_allclose(folded.embed(inputs), plain.embed(inputs), atol=1e-6)


def test_a_head_alone_is_converted(build_head, calibration, tmp_path: Path, features) -> None:
    for pooling in ("gap", "gmp", "gem"):
        model = build_head(pooling=pooling)
        wide = tmp_path / f"{pooling}.onnx"
        export_onnx(model, wide, ExportOptions(iterations=STEPS), calibration)
        half = convert_precision(wide, tmp_path / f"{pooling}16.onnx", "fp16", calibration).path
        with open_session(wide) as a, open_session(half) as b:
            np.testing.assert_allclose(b.embed(features), a.embed(features), atol=5e-3)
        assert any(
            w.data_type == onnx.TensorProto.FLOAT16 for w in onnx.load(half).graph.initializer
        )


def test_a_baseline_is_converted_without_a_certificate(
    build_head, calibration, tmp_path: Path
) -> None:
    wide = tmp_path / "gap.onnx"
    export_onnx(build_head(baseline=True), wide, ExportOptions(), calibration)
    assert (
        convert_precision(wide, tmp_path / "h.onnx", "fp16", calibration).manifest.certificate
        is None
    )


@pytest.mark.parametrize(
    ("settings", "precision", "words"),
    [
        ({}, "int8", "--calibrate"),
        ({"precision": "fp16"}, "bf16", "cannot be converted to bf16"),
        ({}, "bf16", "opset 18, where Conv takes no bf16"),
        ({"pooling_form": "plugin"}, "fp16", "as one node already"),
    ],
)
def test_an_impossible_conversion_says_what_to_do(
    settings: dict[str, object], precision: str, words: str, exported, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        convert_precision(exported(iterations=STEPS, **settings), tmp_path / "m.onnx", precision)
    assert "export the checkpoint" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_gsp_deploy_did_not_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model file"):
        convert_precision(tmp_path / "gone.onnx", tmp_path / "m.onnx", "fp16")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(ModelFileError, match="not a whole ONNX file"):
        convert_precision(tmp_path / "junk.onnx", tmp_path / "m.onnx", "fp16")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "foreign.onnx")
    with pytest.raises(ModelFileError, match="not an export of gsp-deploy"):
        convert_precision(tmp_path / "foreign.onnx", tmp_path / "m.onnx", "fp16")
