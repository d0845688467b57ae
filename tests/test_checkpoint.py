"""Checkpoints of ours: what is saved comes back bit for bit, and no file can do harm."""

from __future__ import annotations

import json
import os
import pickle
import random
import stat
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gsp_deploy_models
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gsp_deploy.checkpoint import (
    METADATA_KEY,
    Provenance,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from gsp_deploy.config import BaselineConfig, GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.errors import CheckpointError, ConfigError
from gsp_deploy.integrity import digest_of
from gsp_deploy.model import EmbeddingModel

Edit = Callable[[dict[str, Any]], object]


def head_model(head: GSPConfig | BaselineConfig) -> EmbeddingModel:
    torch.manual_seed(1)
    return EmbeddingModel(ModelConfig("features", head, None)).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small convolutional network with everything at unusual settings."""
    spec = PreprocessingSpec(24, 40, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", "stretch", 0.9)
    head = GSPConfig(
        16, 5, 3, transport_ratio=0.7, entropy_weight=9.0, iterations=7, solver="newton",
        pooling="gem", max_residual=True, normalize=False, bias=False, initial_scale=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = EmbeddingModel(ModelConfig("small_cnn_s8", head, spec, {"width": 4}))
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    told = Provenance("Apache-2.0", "folder:birds", "gsp-deploy train x", {"R@1": 0.5}, "a note")
    save_checkpoint(model, path, told)
    return path


@pytest.fixture
def tampered(saved: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """Return the checkpoint with its metadata changed, and without a digest that would tell."""

    def write(edit: Edit) -> Path:
        raw = saved.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8 : 8 + length])
        data = json.loads(header["__metadata__"][METADATA_KEY])
        del data["sha256"]
        changed = edit(data)
        text = changed if isinstance(changed, str) else json.dumps(data)
        header["__metadata__"][METADATA_KEY] = text
        encoded = json.dumps(header).encode()
        path = tmp_path / "tampered.safetensors"
        path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + raw[8 + length :])
        return path

    return write


def test_round_trip_is_bit_for_bit(saved: Path, tmp_path: Path) -> None:
    model = load_checkpoint(saved)
    assert not model.training
    again = tmp_path / "again.safetensors"
    save_checkpoint(model, again, read_checkpoint(saved).metadata.provenance)
    assert again.read_bytes() == saved.read_bytes()
    stored = load_file(saved)
    assert set(stored) == set(model.state_dict())
    assert all(torch.equal(stored[name], t) for name, t in model.state_dict().items())


def test_settings_and_provenance_travel_in_the_file(saved: Path) -> None:
    metadata = read_checkpoint(saved).metadata
    assert metadata is not None
    assert metadata.model.head.initial_scale == 0.5
    assert metadata.model.preprocessing.mean == (0.1, 0.2, 0.3)
    assert metadata.model.backbone_options == {"width": 4}
    assert metadata.provenance.license == "Apache-2.0"
    assert metadata.provenance.metrics == {"R@1": 0.5}


def test_the_same_model_is_saved_as_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    model = load_checkpoint(saved)
    for name in ("a", "b"):
        save_checkpoint(model, tmp_path / f"{name}.safetensors")
    assert len({(tmp_path / f"{name}.safetensors").read_bytes() for name in "ab"}) == 1


def test_others_may_read_the_file(saved: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("pooling", ["gap", "gmp", "gem", "gap+gmp"])
def test_baselines_are_saved_too(pooling: str, tmp_path: Path) -> None:
    model = head_model(BaselineConfig(6, 4, pooling))
    save_checkpoint(model, tmp_path / "b.safetensors")
    features = torch.rand(2, 6, 3, 3)
    loaded = load_checkpoint(tmp_path / "b.safetensors")
    assert torch.equal(loaded(features).embedding, model(features).embedding)
    with pytest.raises(ConfigError, match="transport_ratio"):
        load_checkpoint(tmp_path / "b.safetensors", transport_ratio=0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_become_float32_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    model = head_model(GSPConfig(6, 4, 3)).to(dtype)
    save_checkpoint(model, tmp_path / "half.safetensors")
    loaded = load_checkpoint(tmp_path / "half.safetensors")
    assert loaded.head.prototypes.dtype == torch.float32
    assert torch.equal(loaded.head.prototypes, model.head.prototypes.float())


def test_settings_given_replace_those_in_the_file(saved: Path) -> None:
    head = load_checkpoint(saved, transport_ratio=0.2, entropy_weight=3.0, normalize=True)
    assert head.config.head.transport_ratio == 0.2
    assert head.config.head.entropy_weight == 3.0
    assert head.config.head.normalize
    assert head.config.head.steps == 7


def test_another_solver_brings_its_own_number_of_steps(saved: Path) -> None:
    assert load_checkpoint(saved, solver="fixed-point").config.head.steps == 100
    assert load_checkpoint(saved, solver="fixed-point", iterations=9).config.head.steps == 9


def test_another_pooling_must_fit_the_weights(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="power"):
        load_checkpoint(saved, pooling="gap")


def test_backbone_options_are_refused_where_the_file_knows_better(saved: Path) -> None:
    with pytest.raises(ConfigError, match="leave those options out"):
        load_checkpoint(saved, backbone="resnet18")
    with pytest.raises(ConfigError, match="leave those options out"):
        load_checkpoint(saved, preprocessing=PreprocessingSpec(8, 8))


def refusal(path: Path) -> str | None:
    """Return the message with which a file is refused, or None where it loads."""
    try:
        load_checkpoint(path)
    except (CheckpointError, ConfigError) as error:
        return str(error)
    return None


def assert_refused(path: Path, *named: str) -> None:
    message = refusal(path)
    assert message is not None
    assert "\n" not in message
    assert all(word in message for word in named)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 64, b"just a text\n" * 9, b'{"a": 1}', b"PK\3\4" + b"x" * 50]
)
def test_files_that_are_no_checkpoint(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    assert_refused(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.safetensors", "no such")
    (tmp_path / "folder.safetensors").mkdir()
    assert_refused(tmp_path / "folder.safetensors", "no such")


def test_truncated_files(saved: Path, tmp_path: Path) -> None:
    raw = saved.read_bytes()
    header = 8 + struct.unpack("<Q", raw[:8])[0]
    cut = tmp_path / "cut.safetensors"
    lengths = [1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(raw) - 1]
    for length in lengths:
        cut.write_bytes(raw[:length])
        assert_refused(cut, "safetensors")


def test_flipped_bits_are_refused_or_harmless(saved: Path, tmp_path: Path) -> None:
    raw, draw = saved.read_bytes(), random.Random(0)
    header = 8 + struct.unpack("<Q", raw[:8])[0]
    path = tmp_path / "flipped.safetensors"
    refused = 0
    for _ in range(150):
        flipped = bytearray(raw)
        flipped[draw.randrange(header)] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        message = refusal(path)
        assert "\n" not in (message or "")
        refused += message is not None
    assert refused > 100


def test_any_flipped_bit_of_the_weights_is_told(saved: Path, tmp_path: Path) -> None:
    raw, draw = saved.read_bytes(), random.Random(0)
    header = 8 + struct.unpack("<Q", raw[:8])[0]
    path = tmp_path / "flipped.safetensors"
    for _ in range(50):
        flipped = bytearray(raw)
        flipped[draw.randrange(header, len(raw))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        assert_refused(path, "not as it was saved", "fetch or copy it again")


@pytest.mark.parametrize("setting", ["entropy_weight", "transport_ratio"])
def test_another_setting_under_the_same_digest_is_told(
    setting: str, saved: Path, tmp_path: Path
) -> None:
    raw = saved.read_bytes()
    place = raw.index(setting.encode()) + len(setting) + 5  # after its quote: \\": 9.0
    digit = next(i for i in range(place, len(raw)) if raw[i : i + 1] in b"79")
    path = tmp_path / "changed.safetensors"
    path.write_bytes(raw[:digit] + b"1" + raw[digit + 1 :])
    assert_refused(path, "not as it was saved")


def test_files_from_before_the_digest_load_as_they_did(saved: Path, tampered) -> None:
    older = load_checkpoint(tampered(lambda data: None))
    for name, tensor in load_checkpoint(saved).state_dict().items():
        assert torch.equal(older.state_dict()[name], tensor)


@pytest.mark.parametrize("file", ["glyphs.safetensors", "glyphs-lite0.safetensors"])
def test_the_shipped_checkpoints_carry_a_digest(file: str) -> None:
    with safe_open(Path(gsp_deploy_models.__file__).parent / file, "pt") as stream:
        header = json.loads(stream.metadata()[METADATA_KEY])
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    digest = header.pop("sha256")
    assert digest == digest_of(tensors, header)


def put(*path: str, value: object) -> Edit:
    """Return an edit that sets one setting of the header."""

    def edit(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return edit


SETTINGS = [
    ("format",), ("model",), ("provenance",), ("model", "backbone"), ("model", "head"),
    ("model", "preprocessing"), ("model", "backbone_options"), ("model", "head", "kind"),
    ("model", "head", "in_channels"), ("model", "head", "embedding_dim"),
    ("model", "head", "num_prototypes"), ("model", "head", "entropy_weight"),
    ("model", "head", "initial_scale"), ("model", "preprocessing", "mean"),
    ("model", "backbone_options", "width"),
]  # fmt: skip
WRONG = [
    None, -1, "x", [], {"a": [1]}, [1, 2, 3], 10**12, 10**400, float("nan"), 1e400,
]  # fmt: skip
LEGAL = [
    ("initial_scale", None), ("initial_scale", 10**12), ("entropy_weight", 10**12),
    ("mean", [1, 2, 3]),
]  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS, ids="/".join)
def test_wrong_values_in_the_metadata(setting: tuple[str, ...], tampered) -> None:
    for value in WRONG:
        message = refusal(tampered(put(*setting, value=value)))
        if (setting[-1], value) in LEGAL:
            assert message is None
        else:
            assert message is not None
            assert "\n" not in message
            assert len(message) < 500


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (put("format", value=999), "999"),
        (put("extra", value=1), None),
        (put("model", "colour", value=1), "colour"),
        (put("model", "head", "gamma", value=1), "gamma"),
        (put("provenance", "author", value="x"), "author"),
        (put("provenance", "license", value=["MIT"]), "license"),
        (put("provenance", "metrics", value={"R@1": "high"}), "metrics"),
        (lambda data: "[" * 100_000, "damaged"),
        (lambda data: '{"format": 1, "model": ' + "[" * 900 + "]" * 900 + "}", "damaged"),
        (lambda data: "1" * 5000, "damaged"),
        (lambda data: "{}", "format"),
        (lambda data: "[]", "no table"),
        (lambda data: "", "damaged"),
        (put("model", "backbone", value="hf-hub:someone/model"), "timm model name"),
        (put("model", "backbone", value="local-dir:/etc"), "timm model name"),
        (put("model", "backbone", value="resnet18.no_such_tag"), "resnet18"),
        (put("model", "backbone", value="resnet"), "near it"),
        (put("model", "backbone_options", "checkpoint_path", value="/etc/passwd"), "checkpoint"),
        (put("model", "backbone_options", "pretrained", value=True), "pretrained"),
        (put("model", "backbone_options", "width", value=10**9), "backbone"),
        (put("model", "head", "embedding_dim", value=10**12), "expected head.embed.weight"),
        (put("model", "head", "num_prototypes", value=10**12), "expected head.prototypes"),
    ],
)
def test_tampered_metadata(edit: Edit, named: str | None, tampered) -> None:
    path = tampered(edit)
    if named is None:  # an unknown key beside ours harms nobody
        load_checkpoint(path)
    else:
        assert_refused(path, named)


def test_timm_features_only_networks_are_refused(tampered) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["model"] |= {"backbone": "test_resnet", "backbone_options": {"features_only": True}}

    assert_refused(tampered(edit), "channels")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float, tmp_path: Path) -> None:
    path, model = tmp_path / "nan.safetensors", head_model(GSPConfig(6, 5, 4))
    model.head.prototypes.data[1, 2] = value
    save_checkpoint(model, path)
    assert_refused(path, "head.prototypes", "NaN")


def test_tensors_beside_or_missing(saved: Path, tmp_path: Path, tampered) -> None:
    tensors = load_file(tampered(lambda data: None))
    header = json.dumps(
        {"format": 1, "model": load_checkpoint(saved).config.to_dict()}, sort_keys=True
    )
    for change, named in [
        (lambda d: d.pop("head.embed.weight"), "head.embed.weight"),
        (lambda d: d.pop("backbone.units.0.conv.weight"), "units.0.conv.weight"),
        (lambda d: d.update(more=torch.ones(1)), "more"),
    ]:
        changed = dict(tensors)
        change(changed)
        path = tmp_path / "changed.safetensors"
        save_file(changed, path, {METADATA_KEY: header})
        assert_refused(path, named)


class Payload:
    """Unpickles into a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_does_not_run(zipped: bool, golden: Path, tmp_path: Path) -> None:
    state = torch.load(golden / "official_head_state_dict.pt", weights_only=True)
    mark, path = tmp_path / "ran", tmp_path / "hostile.pt"
    torch.save(
        {**state, "x": Payload(f"touch {mark}")}, path, _use_new_zipfile_serialization=zipped
    )
    assert_refused(path, "refused")
    assert not mark.exists()


def test_a_hostile_pickle_gets_one_line(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "hostile.pt"
    path.write_bytes(pickle.dumps({"x": Payload("true")}))  # its protocol makes torch warn
    assert_refused(path, "refused")
    assert not recwarn.list


def test_damaged_torch_files(golden: Path, tmp_path: Path) -> None:
    """A bit flipped between the archive's records is harmless; in a weight it is told."""
    sound = load_checkpoint(golden / "official_head_state_dict.pt").state_dict()
    raw, draw = (golden / "official_head_state_dict.pt").read_bytes(), random.Random(2)
    path = tmp_path / "damaged.pt"
    for index in range(80):
        damaged = bytearray(raw)
        if index % 2:
            damaged = damaged[: draw.randrange(len(raw))]
        else:
            damaged[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        message = refusal(path)
        assert "\n" not in (message or "")
        if message is None:
            opened = load_checkpoint(path).state_dict()
            assert all(torch.equal(opened[name], tensor) for name, tensor in sound.items())


def test_a_torch_file_saved_without_checksums_is_read(tmp_path: Path) -> None:
    state = head_model(GSPConfig(6, 5, 4)).head.state_dict()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "head.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load_checkpoint(tmp_path / "head.pt").head.prototypes, state["prototypes"])


def _quantised(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("sparse", lambda t: t.to_sparse()),
        ("meta", lambda t: t.to("meta")),
        ("float8", lambda t: t.to(torch.float8_e4m3fn)),
        ("complex", lambda t: t.to(torch.complex64)),
        ("qint8", _quantised),
    ],
)
def test_tensors_of_other_kinds(kind: str, change, golden: Path, tmp_path: Path) -> None:
    state = torch.load(golden / "official_head_state_dict.pt", weights_only=True)
    path = tmp_path / "kind.pt"
    torch.save({**state, "prototypes": change(state["prototypes"])}, path)
    assert_refused(path, "prototypes", kind)


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2], {}, {"state_dict": {}}, {"a": 1}, 7])
def test_torch_files_without_a_head(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    assert_refused(tmp_path / "other.pt", "expected")
