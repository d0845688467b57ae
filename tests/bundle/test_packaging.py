"""A bundle contains exactly what it needs, with the same bytes each time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, load_checkpoint, open_session
from gsp_deploy.artifact import read_sidecar
from gsp_deploy.bundle import read_bundle_manifest, verify_bundle
from gsp_deploy.bundle.packaging import PackagedBundle, PackageOptions, package_model
from gsp_deploy.checkpoint import Provenance, save_checkpoint
from gsp_deploy.errors import GspDeployError, ModelFileError, UsageError
from gsp_deploy.export import ExportOptions, Source, export_onnx


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_everything_is_there(packaged: PackagedBundle, tiny_export: str) -> None:
    found = contents(packaged.folder)
    assert set(found) == {
        "LICENSE", "README.md", "SHA256SUMS", "bundle.json", "tiny.onnx", "tiny.onnx.json",
        "golden/images.npy", "golden/embeddings.npy", "golden/photograph.png",
    }  # fmt: skip
    assert found["tiny.onnx"] == Path(tiny_export).read_bytes()
    assert dict(packaged.files) == {name: len(content) for name, content in found.items()}
    assert read_bundle_manifest(packaged.folder) == packaged.manifest
    assert packaged.manifest.preprocessing == read_sidecar(tiny_export).preprocessing


def test_the_hashes_are_what_sha256sum_reads(packaged: PackagedBundle) -> None:
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"],
        cwd=packaged.folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": OK") == len(packaged.files) - 1


def test_golden_embeddings_are_the_models(packaged: PackagedBundle, tiny_export: str) -> None:
    images = np.load(packaged.folder / "golden/images.npy")
    assert images.shape == (8, 32, 32, 3)
    assert len(np.unique(images.reshape(8, -1), axis=0)) == 8
    with open_session(tiny_export) as session:
        expected = session.embed(images)
    np.testing.assert_allclose(
        np.load(packaged.folder / "golden/embeddings.npy"), expected, atol=1e-6
    )


def test_the_same_inputs_give_the_same_bytes(
    packaged: PackagedBundle, tiny_export: str, tmp_path: Path
) -> None:
    """Whatever the folder, the umask and the model's own modes and times are."""
    model = tmp_path / "tiny.onnx"
    for suffix in ("", ".json"):
        copied = Path(str(model) + suffix)
        copied.write_bytes(Path(tiny_export + suffix).read_bytes())
        copied.chmod(0o600)
    before = os.umask(0o077)
    try:
        again = package_model(model, tmp_path / "other").folder
    finally:
        os.umask(before)
    assert contents(again) == contents(packaged.folder)
    modes = {file.stat().st_mode & 0o777 for file in again.rglob("*") if file.is_file()}
    assert modes == {0o644}


def test_the_readmes_python_works(packaged: PackagedBundle) -> None:
    text = (packaged.folder / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=packaged.folder, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "(1, 8)\n"), done.stderr
    assert "test_resnet, 8-D embeddings" in text
    assert "Guarantee: " in text
    assert "measured on" in text
    assert verify_bundle(packaged.folder).passed  # it left nothing behind


def test_the_licence_travels(tiny_checkpoint: Path, tiny_export: str, tmp_path: Path) -> None:
    model = load_checkpoint(tiny_checkpoint)
    licensed = tmp_path / "licensed.safetensors"
    save_checkpoint(model, licensed, Provenance(license="CC-BY-4.0", dataset="cub"))

    source = Source.of(licensed)
    onnx = export_onnx(model, tmp_path / "m.onnx", ExportOptions(iterations=3), None, source).path
    bundle = package_model(onnx, tmp_path / "bundle")
    assert bundle.manifest.license == "CC-BY-4.0"
    text = (bundle.folder / "LICENSE").read_text()
    assert "CC-BY-4.0" in text
    assert "dataset: cub" in text
    silent = package_model(tiny_export, tmp_path / "silent")
    assert "no stated licence" in (silent.folder / "LICENSE").read_text()
    (tmp_path / "mine.txt").write_text("All rights reserved.\n")
    options = PackageOptions(license=tmp_path / "mine.txt", force=True)
    package_model(tiny_export, tmp_path / "silent", options)
    assert (silent.folder / "LICENSE").read_text() == "All rights reserved.\n"


def test_images_of_ones_own(tiny_export: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for index in range(11):
        pixels = draw.integers(0, 256, (400 + index, 350, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    options = PackageOptions(images=[str(folder)])
    packaged = package_model(tiny_export, tmp_path / "bundle", options)
    assert packaged.golden_source == "8 of the images given"
    assert max(Image.open(packaged.folder / "golden/photograph.png").size) == 320
    assert verify_bundle(packaged.folder).passed


def test_weights_in_a_file_beside_come_along(tiny_checkpoint: Path, tmp_path: Path) -> None:
    options = ExportOptions(iterations=3, external_data=True)
    onnx = export_onnx(load_checkpoint(tiny_checkpoint), tmp_path / "m.onnx", options).path
    bundle = package_model(onnx, tmp_path / "bundle").folder
    assert (bundle / "m.onnx.data").is_file()
    assert verify_bundle(bundle).passed


def test_an_engine_brings_its_onnx(tiny_export: str, make_engine, tmp_path: Path) -> None:
    onnx = Path(tiny_export)
    library = tmp_path / "libplugin.so"
    library.write_bytes(b"plugin")
    engine = make_engine(onnx, tmp_path / "m.engine", compute_capabilities=("8.6", "8.9"))
    packaged = package_model(engine, tmp_path / "bundle", PackageOptions(onnx=onnx))
    first, second = packaged.manifest.artifacts
    assert (first.runtime, first.file, first.compute_capabilities) == (
        "tensorrt", "m.engine", ("8.6", "8.9"),
    )  # fmt: skip
    assert (second.runtime, second.file) == ("onnxruntime", "tiny.onnx")
    assert {"m.engine", "m.engine.json", "tiny.onnx"} <= set(contents(packaged.folder))
    text = (packaged.folder / "README.md").read_text()
    assert "TensorRT 10.3.0.26, linux aarch64, compute capability 8.6, 8.9" in text
    assert "--allow-fallback" in text


def test_what_does_not_belong_to_an_engine(tiny_export: str, make_engine, tmp_path: Path) -> None:
    onnx, out = Path(tiny_export), tmp_path / "bundle"
    engine = make_engine(onnx, tmp_path / "m.engine")
    with pytest.raises(UsageError, match=r"pass --onnx tiny\.onnx"):
        package_model(engine, out)
    with pytest.raises(UsageError, match="needs no plugin"):
        package_model(engine, out, PackageOptions(onnx=onnx, plugin=onnx))
    with pytest.raises(UsageError, match="--onnx is for engines"):
        package_model(onnx, out, PackageOptions(onnx=onnx))
    other = make_engine(onnx, tmp_path / "other.engine", onnx_sha256="ab" * 32)
    with pytest.raises(UsageError, match="was not built from"):
        package_model(other, out, PackageOptions(onnx=onnx))
    engine.write_bytes(b"another plan")
    with pytest.raises(ModelFileError, match="manifest"):
        package_model(engine, out, PackageOptions(onnx=onnx))
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "words", "extra"),
    [
        ({}, "runs only with this TensorRT version and on", "gpu"),
        ({"version_compatible": True}, r"or a later one, .*--allow-host-code", "gpu"),
        ({"version_compatible": True, "lean": True}, "lean runtime of this version or a", "lean"),
    ],
)
def test_the_readme_names_the_runtimes_of_an_engine(
    changes, words, extra, tiny_export: str, make_engine, tmp_path: Path
) -> None:
    onnx = Path(tiny_export)
    engine = make_engine(onnx, tmp_path / "m.engine", **changes)
    packaged = package_model(engine, tmp_path / "bundle", PackageOptions(onnx=onnx))
    assert packaged.manifest.artifacts[0].lean == changes.get("lean", False)
    text = (packaged.folder / "README.md").read_text()
    assert re.search(words, text)
    assert f"## Python\n`pip install 'gsp-deploy[{extra}]'`" in text


def test_an_engine_with_its_plugin_inside_brings_no_library(
    tiny_export: str, make_engine, tmp_path: Path
) -> None:
    from gsp_deploy.artifact.engine_manifest import PluginRecord

    onnx = Path(tiny_export)
    record = PluginRecord("GSP", "gsp.deploy", "1", "libgsp_plugin.so", "ab" * 32, 1, inside=True)
    engine = make_engine(onnx, tmp_path / "m.engine", plugin=record, version_compatible=True)
    packaged = package_model(engine, tmp_path / "bundle", PackageOptions(onnx=onnx))
    assert packaged.manifest.artifacts[0].plugin is None


def test_an_engines_plugin_comes_along(tiny_export: str, make_engine, tmp_path: Path) -> None:
    from gsp_deploy.artifact.engine_manifest import PluginRecord
    from gsp_deploy.base.files import sha256_of

    onnx, library = Path(tiny_export), tmp_path / "libgsp_plugin.so"
    library.write_bytes(b"plugin")
    record = PluginRecord(
        "GeneralizedSumPooling", "gsp.deploy", "1", library.name, sha256_of(library), 1
    )
    engine = make_engine(onnx, tmp_path / "m.engine", plugin=record)
    with pytest.raises(UsageError, match="pass --plugin"):
        package_model(engine, tmp_path / "bundle", PackageOptions(onnx=onnx))
    options = PackageOptions(onnx=onnx, plugin=library)
    packaged = package_model(engine, tmp_path / "bundle", options)
    assert packaged.manifest.artifacts[0].plugin == library.name
    assert (packaged.folder / library.name).read_bytes() == b"plugin"
    library.write_bytes(b"another")
    with pytest.raises(UsageError, match="is not the plugin"):
        package_model(engine, tmp_path / "again", options)


def test_models_that_cannot_be_packaged(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="export a checkpoint first"):
        package_model(tiny_checkpoint, tmp_path / "bundle")
    with pytest.raises(ModelFileError, match="no such model"):
        package_model(tmp_path / "none.onnx", tmp_path / "bundle")
    head = EmbeddingModel(ModelConfig("features", GSPConfig(6, 5, 4), None)).eval()
    onnx = export_onnx(head, tmp_path / "head.onnx", ExportOptions(iterations=3)).path
    with pytest.raises(UsageError, match="a head alone"):
        package_model(onnx, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_only_bundles_are_ever_replaced(tiny_export: str, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pass --force"):
        package_model(tiny_export, bundle)
    (bundle / "photograph.jpg").write_text("put here by somebody")
    with pytest.raises(
        UsageError, match=r"contains photograph\.jpg, which gsp-deploy did not make"
    ):
        package_model(tiny_export, bundle, PackageOptions(force=True))
    (bundle / "photograph.jpg").unlink()
    package_model(tiny_export, bundle, PackageOptions(force=True))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is not a bundle"):
        package_model(tiny_export, mine, PackageOptions(force=True))
    assert (mine / "thesis.tex").read_text() == "years of work"


def test_a_failure_leaves_the_old_bundle(
    tiny_export: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(bundle)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gsp_deploy.bundle.packaging.write_golden", full_disk)
    with pytest.raises(GspDeployError, match="No space left on device; nothing was replaced"):
        package_model(tiny_export, bundle, PackageOptions(force=True))
    assert contents(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
