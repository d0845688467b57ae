"""State dicts of PyTorch: hostile pickles, damaged archives, tensors of other kinds."""

from __future__ import annotations

import os
import pickle
import random
import warnings
from pathlib import Path

import pytest
import torch

from gsp_deploy.checkpoint import load_checkpoint
from gsp_deploy.config import GSPConfig

from .refusals import assert_refused, head_model, refusal


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


@pytest.mark.parametrize("content", [b"hi\n", b"git-lfs\n", b"q"])
def test_a_text_named_as_a_torch_file_gets_a_reason_in_words(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "text.pt"
    path.write_bytes(content)
    assert_refused(path, "refused, the file is damaged or contains more than tensors")


def test_damaged_torch_files(golden: Path, tmp_path: Path) -> None:
    """A bit flipped between the archive's records is harmless; in a weight it is found."""
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
