"""Wrong and hostile metadata is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gsp_deploy.checkpoint import METADATA_KEY, load_checkpoint, save_checkpoint
from gsp_deploy.config import GSPConfig

from .refusals import Edit, assert_refused, head_model, put, refusal

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
        (lambda data: "[]", "not a table"),
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


def test_a_checkpoint_of_an_adopted_network_is_refused(tampered) -> None:
    """Only an ONNX file can be adopted; a checkpoint that says so is damaged or hostile."""
    head = {"kind": "adopted", "embedding_dim": 8, "normalize": True}
    spec = {"height": 8, "width": 8}

    def adopted(metadata: dict[str, Any]) -> None:
        metadata["model"] |= {"backbone": "any", "head": head, "preprocessing": spec}

    assert_refused(tampered(adopted), "no PyTorch form")
