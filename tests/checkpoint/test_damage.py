"""Truncated and flipped files do no harm, and none loads as another model."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import gsp_deploy_models
import pytest
import torch
from safetensors import safe_open

from gsp_deploy.checkpoint import (
    METADATA_KEY,
    load_checkpoint,
    read_checkpoint,
    read_metadata,
)
from gsp_deploy.checkpoint.integrity import digest_of
from gsp_deploy.errors import CheckpointError

from .refusals import assert_refused, refusal


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


def test_what_a_checkpoint_says_is_read_without_its_weights(saved: Path, tmp_path: Path) -> None:
    assert read_metadata(saved) == read_checkpoint(saved).metadata is not None
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(saved.read_bytes()[:-1] + bytes([saved.read_bytes()[-1] ^ 1]))
    assert read_metadata(path) == read_metadata(saved)
    with pytest.raises(CheckpointError, match="changed since it was saved"):
        read_checkpoint(path)
    foreign = tmp_path / "foreign.pt"
    foreign.write_bytes(b"of no interest")
    assert read_metadata(foreign) is None
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        read_metadata(tmp_path / "none.pt")


def test_any_flipped_bit_of_the_weights_is_found(saved: Path, tmp_path: Path) -> None:
    raw, draw = saved.read_bytes(), random.Random(0)
    header = 8 + struct.unpack("<Q", raw[:8])[0]
    path = tmp_path / "flipped.safetensors"
    for _ in range(50):
        flipped = bytearray(raw)
        flipped[draw.randrange(header, len(raw))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        assert_refused(path, "changed since it was saved", "fetch or copy it again")


@pytest.mark.parametrize("setting", ["entropy_weight", "transport_ratio"])
def test_another_setting_under_the_same_digest_is_found(
    setting: str, saved: Path, tmp_path: Path
) -> None:
    raw = saved.read_bytes()
    place = raw.index(setting.encode()) + len(setting) + 5  # after its quote: \\": 9.0
    digit = next(i for i in range(place, len(raw)) if raw[i : i + 1] in b"79")
    path = tmp_path / "changed.safetensors"
    path.write_bytes(raw[:digit] + b"1" + raw[digit + 1 :])
    assert_refused(path, "changed since it was saved")


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
