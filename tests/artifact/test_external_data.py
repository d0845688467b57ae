"""Weights in separate files: found without onnx, kept inside the folder, part of the identity."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gsp_deploy import load_checkpoint
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.external_data import external_data_of, without_links
from gsp_deploy.artifact.identity import identity, weight_files
from gsp_deploy.artifact.kind import ENGINE, ONNX
from gsp_deploy.base.files import sha256_of
from gsp_deploy.bundle import verify_bundle
from gsp_deploy.bundle.packaging import package_model
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.export.conversion import convert_precision
from gsp_deploy.retrieval.gallery import identity_of
from gsp_deploy.runtime import open_session

DATA = "big.onnx.data"


def tensor(location: str, name: str = "w") -> TensorProto:
    """Return a tensor of two float32 whose values are in another file."""
    made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    made.data_location = TensorProto.EXTERNAL
    made.external_data.add(key="location", value=location)
    return made


def graph_of(*tensors: TensorProto, nodes: tuple = ()) -> onnx.GraphProto:
    nodes = nodes or (helper.make_node("Identity", ["w"], ["y"]),)
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    return helper.make_graph(list(nodes), "g", [], [result], list(tensors))


def written(path: Path, graph: onnx.GraphProto, functions: tuple = ()) -> Path:
    model = helper.make_model(graph, functions=list(functions))
    path.write_bytes(model.SerializeToString())
    return path


def in_a_constant(location: str) -> onnx.GraphProto:
    node = helper.make_node("Constant", [], ["y"], value=tensor(location))
    return graph_of(nodes=(node,))


def in_a_branch(location: str) -> onnx.GraphProto:
    inner = in_a_constant(location)
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=graph_of())
    return graph_of(nodes=(node,))


def in_a_sparse_tensor(location: str) -> onnx.GraphProto:
    graph = graph_of()
    sparse = graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor(location))
    return graph


PLACES: dict[str, Callable[[str], onnx.GraphProto]] = {
    "initializer": lambda location: graph_of(tensor(location)),
    "constant": in_a_constant,
    "branch": in_a_branch,
    "sparse": in_a_sparse_tensor,
}


@pytest.mark.parametrize("place", PLACES)
def test_wherever_a_graph_has_tensors(place: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w ü.bin").write_bytes(bytes(8))
    path = written(tmp_path / "m.onnx", PLACES[place]("sub/w ü.bin"))
    assert external_data_of(path) == (tmp_path / "sub" / "w ü.bin",)


def test_in_a_function(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    node = helper.make_node("Constant", [], ["y"], value=tensor("w.bin"))
    function = helper.make_function("d", "F", [], ["y"], [node], [helper.make_opsetid("", 17)])
    call = helper.make_node("F", [], ["y"], domain="d")
    path = written(tmp_path / "m.onnx", graph_of(nodes=(call,)), (function,))
    assert external_data_of(path) == (tmp_path / "w.bin",)


def test_fields_that_only_look_like_external_data(tmp_path: Path) -> None:
    """Entries without the mark are not read by any runtime, and a name may be `location`."""
    plain = numpy_helper.from_array(np.zeros(2, np.float32), "location")
    plain.external_data.add(key="location", value="../nowhere")
    assert external_data_of(written(tmp_path / "m.onnx", graph_of(plain))) == ()
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert external_data_of(tmp_path / "empty.onnx") == ()


# A mark of external data as only protobuf reads it, which keeps the lowest 32 bits of a number.
WIDE_VALUE = b"\x70\x81\x80\x80\x80\x10"
WIDE_TAG = b"\xf0\x80\x80\x80\x10\x01"


def inside(number: int, *parts: bytes) -> bytes:
    """Return a field of bytes, as protobuf writes it."""
    content = b"".join(parts)
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.parametrize(
    ("mark", "reason"),
    [(WIDE_VALUE, "in an unknown place"), (WIDE_TAG, "number is too large")],
    ids=["value", "tag"],
)
def test_marks_that_only_protobuf_understands_are_refused(
    mark: bytes, reason: str, tmp_path: Path
) -> None:
    """ONNX Runtime reads the file, and the identity would not cover it."""
    hidden = tensor("w.bin")
    hidden.ClearField("data_location")
    graph = graph_of().SerializeToString() + inside(5, hidden.SerializeToString(), mark)
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08" + inside(7, graph))
    with pytest.raises(ModelFileError, match=reason):
        identity(tmp_path / "m.onnx")


def test_a_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    """Protobuf merges them: one part has the mark, and the other the name."""
    hidden = tensor("w.bin")
    hidden.ClearField("data_location")
    attribute = (inside(1, b"value"), inside(5, b"\x70\x01"), inside(5, hidden.SerializeToString()))
    node = inside(2, b"y") + inside(4, b"Constant") + inside(5, *attribute)
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08" + inside(7, inside(1, node)))
    read = onnx.load_model(tmp_path / "m.onnx", load_external_data=False)
    assert read.graph.node[0].attribute[0].t.data_location == TensorProto.EXTERNAL
    with pytest.raises(ModelFileError, match="two tensors where one belongs"):
        identity(tmp_path / "m.onnx")


OUTSIDE = ["../w.bin", "/etc/passwd", "a/../../w.bin", "C:\\w.bin", "..\\w.bin", "", ".", "a//b"]


@pytest.mark.parametrize("location", OUTSIDE)
@pytest.mark.parametrize("place", PLACES)
def test_names_that_lead_out_are_refused_in_a_line(
    place: str, location: str, tmp_path: Path
) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    (tmp_path / "here").mkdir()
    path = written(tmp_path / "here" / "m.onnx", PLACES[place](location))
    for read in (identity, weight_files, open_session, Artifact.of):
        with pytest.raises(ModelFileError, match="below its own folder") as refused:
            read(path)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("there", ["nothing", "a folder", "a pipe", "a device"])
def test_a_name_without_a_plain_file_is_missing(there: str, tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", graph_of(tensor("w.bin")))
    match there:
        case "a folder":
            (tmp_path / "w.bin").mkdir()
        case "a pipe":
            os.mkfifo(tmp_path / "w.bin")
        case "a device":
            (tmp_path / "w.bin").symlink_to("/dev/zero")
    with pytest.raises(ModelFileError, match=r"its weights in w\.bin, which is missing"):
        open_session(path)


@pytest.mark.parametrize("damage", [b"\x3a\xff\xff\xff\xff\x0flocation", b"\x3a\x0alocation\x07"])
def test_damaged_graphs_are_refused_in_one_line(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(damage)
    with pytest.raises(ModelFileError, match="not a whole ONNX file"):
        identity(tmp_path / "m.onnx")


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    def holding(field: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 0x7F:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([field << 3 | 2]) + length + bytes([size]) + content

    nested = b"location"
    for _ in range(200):  # a graph in an attribute of a node of a graph
        nested = holding(1, holding(5, holding(6, nested)))
    (tmp_path / "m.onnx").write_bytes(holding(7, nested))
    with pytest.raises(ModelFileError, match="deep"):
        identity(tmp_path / "m.onnx")


@pytest.fixture(scope="session")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with its weights in a file of their own."""
    path = tmp_path_factory.mktemp("external") / "big.onnx"
    options = ExportOptions(iterations=3, external_data=True)
    export_onnx(load_checkpoint(tiny_checkpoint), path, options)
    return path


@pytest.fixture
def big(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(exported.parent, tmp_path / "model")) / exported.name


def alter(data: Path) -> None:
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)


def linked(model: Path, cache: Path) -> Path:
    """Lay a model out as a download cache does, and return the link that stands for it."""
    blobs, snapshot = cache / "blobs", cache / "snapshots" / "rev"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for index, path in enumerate(sorted(model.parent.iterdir())):
        shutil.copy(path, blobs / str(index))
        (snapshot / path.name).symlink_to(f"../../blobs/{index}")
    return snapshot / model.name


def test_the_identity_of_one_file_is_its_hash(tiny_export: str, tiny_checkpoint: Path) -> None:
    for path in (Path(tiny_export), tiny_checkpoint):
        assert identity(path) == sha256_of(path)
        assert weight_files(path) == ()
    assert Artifact.of(tiny_export).manifest.sha256 == sha256_of(tiny_export)


def test_the_identity_covers_the_weights_and_not_the_file_name(big: Path, tmp_path: Path) -> None:
    found = Artifact.of(big)
    assert (found.kind, found.export) == (ONNX, found.manifest)
    assert found.manifest.sha256 == identity(big) != sha256_of(big)
    renamed = big.rename(big.with_name("renamed.onnx"))
    assert identity(renamed) == found.manifest.sha256
    alter(big.with_name(DATA))
    assert identity(renamed) != found.manifest.sha256


def test_the_identity_of_an_engine_covers_its_manifest(
    tiny_export: str, make_engine: Callable[..., Path], tmp_path: Path
) -> None:
    engine = make_engine(Path(tiny_export), tmp_path / "m.engine")
    assert Artifact.of(engine).kind is ENGINE
    assert Artifact.of(engine).export is not None
    before = identity(engine)
    make_engine(Path(tiny_export), tmp_path / "m.engine", platform="linux x86_64")
    assert identity(engine) != before


def test_altered_weights_are_found_before_anything_runs(big: Path, tmp_path: Path) -> None:
    alter(big.with_name(DATA))
    for use in (open_session, Artifact.of, lambda model: package_model(model, tmp_path / "b")):
        with pytest.raises(ModelFileError, match=rf"SHA-256 of big.onnx with {DATA} differs"):
            use(big)
    assert not (tmp_path / "b").exists()


def test_a_manifest_that_did_not_hash_the_weights(big: Path) -> None:
    sidecar = big.with_name(big.name + ".json")
    sidecar.write_text(sidecar.read_text().replace(identity(big), sha256_of(big)))
    with pytest.raises(ModelFileError, match="earlier version, which did not hash the weights"):
        open_session(big)


def test_packages_hold_the_weights(big: Path, tmp_path: Path) -> None:
    made = package_model(big, tmp_path / "bundle")
    assert DATA in dict(made.files)
    verify_bundle(made.folder).raise_on_failure()
    alter(made.folder / DATA)
    assert not verify_bundle(made.folder).passed


def test_weights_whose_name_the_bundle_needs(big: Path, tmp_path: Path) -> None:
    model = onnx.load(big)
    onnx.save(model, big, save_as_external_data=True, location="bundle.json", size_threshold=100)
    big.with_name(big.name + ".json").unlink()
    with pytest.raises(UsageError, match=r"bundle\.json, but a bundle uses that name"):
        package_model(big, tmp_path / "bundle")


def test_an_index_knows_altered_weights_without_a_sidecar(big: Path) -> None:
    big.with_name(big.name + ".json").unlink()
    with open_session(big) as session:
        before = identity_of(session)
    alter(big.with_name(DATA))
    with open_session(big) as session:
        after = identity_of(session)
    assert after.sha256 != before.sha256
    with pytest.raises(UsageError, match="no manifest beside it that records its checkpoint"):
        before.warn_or_refuse(after)


def test_links_into_a_cache_are_a_model_like_another(big: Path, tmp_path: Path) -> None:
    link = linked(big, tmp_path / "cache")
    assert identity(link) == identity(big)
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with open_session(link) as ours, open_session(big) as plain:
        np.testing.assert_array_equal(ours.embed(images), plain.embed(images))
    half = convert_precision(link, tmp_path / "half.onnx", "fp16")  # reads the weights
    assert half.kind is ONNX
    verify_bundle(package_model(link, tmp_path / "bundle").folder).raise_on_failure()


def test_links_are_copied_for_those_that_refuse_them(big: Path, tmp_path: Path) -> None:
    with without_links(big) as same:
        assert same == big
    with without_links(linked(big, tmp_path / "cache")) as plain:
        assert not plain.with_name(DATA).is_symlink()
        assert hashlib.sha256(plain.with_name(DATA).read_bytes()).hexdigest() == sha256_of(
            big.with_name(DATA)
        )
    assert not plain.exists()


def test_only_a_manifest_with_the_hash_of_the_weights_proves_the_checkpoint(big: Path) -> None:
    sidecar = big.with_name(big.name + ".json")
    manifest = json.loads(sidecar.read_text())
    for sha256, expected in ((manifest["sha256"], "c" * 64), (None, None)):
        sidecar.write_text(json.dumps({**manifest, "source_sha256": "c" * 64, "sha256": sha256}))
        with open_session(big) as session:
            assert identity_of(session).checkpoint_sha256 == expected
    sidecar.unlink()
    with open_session(big) as session:
        assert identity_of(session).checkpoint_sha256 is None
