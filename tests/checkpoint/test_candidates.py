"""Several sets of weights in one file: the choice, its note, and the options to choose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from gsp_deploy.checkpoint import load_checkpoint
from gsp_deploy.errors import CheckpointError

BACKBONE = "test_resnet"
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> Weights:
    torch.manual_seed(0)
    state: Weights = timm.create_model(BACKBONE, num_classes=0, global_pool="").state_dict()
    return state


@pytest.fixture
def weights(network: Weights) -> Callable[..., Weights]:
    """Return a whole state dict with one number in its prototypes and first weights."""

    def of(value: float, prefix: str = "", body: str = "backbone.") -> Weights:
        first = next(iter(network))
        body_of = {**network, first: torch.full_like(network[first], value)}
        head = {
            "embed.weight": torch.zeros(8, 96),
            "prototypes": torch.full((4, 8), value),
        }
        return {f"{prefix}{body}{name}": t for name, t in body_of.items()} | {
            f"{prefix}head.{name}": t for name, t in head.items()
        }

    return of


def loaded(contents: Any, path: Path, **options: Any) -> tuple[float, float, list[str]]:
    """Return the number in the backbone, the one in the head, and what was said."""
    torch.save(contents, path)
    notes: list[str] = []
    stride = {"last_stride": 2}  # which no state dict says, so that a line would ask for it
    model = load_checkpoint(
        path, backbone=BACKBONE, backbone_options=stride, announce=notes.append, **options
    )
    first = next(iter(model.backbone.state_dict().values()))
    return first.flatten()[0].item(), model.head.prototypes[0, 0].item(), notes


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
        ("model", "ema"),
        ("net", "ema_model"),
    ],
)
@pytest.mark.parametrize("averaged_first", [False, True])
def test_averaged_weights_go_before_plain_ones_and_a_line_says_so(
    plain: str,
    averaged: str,
    averaged_first: bool,
    weights: Callable[..., Weights],
    tmp_path: Path,
) -> None:
    entries = [(plain, weights(1.0)), (averaged, weights(2.0))]
    contents = {"epoch": 3, **dict(reversed(entries) if averaged_first else entries)}
    *found, notes = loaded(contents, tmp_path / "c.pt")
    assert found == [2, 2]
    assert notes == [
        f"took the weights under {averaged}; there are also those under {plain}, choose one with "
        "--weights-key"
    ]
    *found, notes = loaded(contents, tmp_path / "c.pt", weights_key=plain)
    assert (found, notes) == ([1, 1], [])


def test_a_nested_average_is_found_and_named(
    weights: Callable[..., Weights], tmp_path: Path
) -> None:
    contents = {"model": weights(1.0), "ema": {"module": weights(2.0), "decay": 0.99}}
    *found, notes = loaded(contents, tmp_path / "c.pt")
    assert found == [2, 2]
    assert notes[0].startswith("took the weights under ema.module;")


def test_an_average_in_a_callbacks_state_is_found(
    weights: Callable[..., Weights], tmp_path: Path
) -> None:
    """Lightning's callbacks keep their own state dicts, beside those of the optimiser."""
    contents = {
        "state_dict": weights(1.0),
        "callbacks": {"EMA": {"ema_state_dict": weights(2.0), "buffer": torch.ones(3)}},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
    }
    *found, notes = loaded(contents, tmp_path / "c.pt")
    assert found == [2, 2]
    assert notes[0].startswith("took the weights under callbacks.EMA.ema_state_dict; there are")
    *found, _ = loaded(contents, tmp_path / "c.pt", weights_key="state_dict")
    assert found == [1, 1]


def test_averaged_weights_without_names_are_mentioned(
    weights: Callable[..., Weights], tmp_path: Path
) -> None:
    """torch_ema saves a list of tensors in the order of the parameters."""
    shadow = list(weights(2.0).values())
    contents = {"model": weights(1.0), "ema": {"decay": 0.99, "shadow_params": shadow}}
    *found, notes = loaded(contents, tmp_path / "c.pt")
    assert found == [1, 1]
    assert notes == [
        "the averaged weights under ema.shadow_params have no names, so they were not taken"
    ]


@pytest.mark.parametrize("names", [("encoder_q", "encoder_k"), ("student", "teacher")])
def test_weights_of_equal_rank_are_named_and_none_is_guessed(
    names: tuple[str, str], weights: Callable[..., Weights], tmp_path: Path
) -> None:
    contents = {name: weights(float(value)) for value, name in enumerate(names)}
    with pytest.raises(CheckpointError, match=rf"under {', '.join(names)}; choose one with --w"):
        loaded(contents, tmp_path / "c.pt")
    *found, notes = loaded(contents, tmp_path / "c.pt", weights_key=names[1])
    assert (found, notes) == ([1, 1], [])
    with pytest.raises(CheckpointError, match=rf"under the key 'other', and .*{names[0]}"):
        loaded(contents, tmp_path / "c.pt", weights_key="other")


def test_equal_weights_under_two_keys_are_no_choice(
    weights: Callable[..., Weights], tmp_path: Path
) -> None:
    *found, _ = loaded({"net": weights(1.0), "copy": weights(1.0)}, tmp_path / "c.pt")
    assert found == [1, 1]


def test_an_unknown_key_that_holds_the_only_weights_is_taken(
    weights: Callable[..., Weights], tmp_path: Path
) -> None:
    contents = {
        "embedder": weights(1.0),
        "classifier": {"weight": torch.ones(2, 8)},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []},
    }
    *found, notes = loaded(contents, tmp_path / "c.pt")
    assert found == [1, 1]
    assert notes == [
        "took the weights under embedder; there are also those under classifier, choose one with "
        "--weights-key"
    ]


def test_a_file_without_weights_names_its_keys(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there are none: the file's keys are epoch, config"):
        loaded({"epoch": 3, "config": {"lr": 0.1}}, tmp_path / "c.pt")


@pytest.mark.parametrize("order", [1, -1])
def test_two_encoders_in_one_state_dict_are_chosen_by_their_prefix(
    order: int, weights: Callable[..., Weights], tmp_path: Path
) -> None:
    parts = [weights(1.0, "encoder_q."), weights(2.0, "encoder_k.")][::order]
    contents = parts[0] | parts[1]
    with pytest.raises(CheckpointError, match=r"2 \(encoder_k.head., encoder_q.head.\); choose"):
        loaded(contents, tmp_path / "c.pt")
    for prefix, value in (("encoder_q.", 1), ("encoder_k.", 2)):
        *found, _ = loaded(contents, tmp_path / "c.pt", prefix=prefix)
        assert found == [value, value]
    with pytest.raises(CheckpointError, match=r", 0 of them under 'x.'; choose one"):
        loaded(contents, tmp_path / "c.pt", prefix="x.")


def test_an_average_beside_the_weights_in_one_state_dict(
    weights: Callable[..., Weights], tmp_path: Path
) -> None:
    contents = weights(1.0) | weights(2.0, "ema.")
    *found, notes = loaded(contents, tmp_path / "c.pt")
    assert found == [2, 2]
    assert "took the head under 'ema.head.'" in notes[0]
    *found, notes = loaded(contents, tmp_path / "c.pt", prefix="head.")
    assert found == [1, 1]  # the backbone beside the head that was chosen


def test_two_backbones_beside_one_head_are_not_guessed(
    weights: Callable[..., Weights], network: Weights, tmp_path: Path
) -> None:
    contents = weights(1.0) | {f"teacher.{name}": t for name, t in network.items()}
    with pytest.raises(CheckpointError, match=r"found 2 \('backbone.', 'teacher.'\); choose one"):
        loaded(contents, tmp_path / "c.pt")
    *found, notes = loaded(contents, tmp_path / "c.pt", prefix="backbone.")
    assert found == [1, 1]
    assert notes[0].startswith(f"{len(network)} tensors not used: teacher.")


def test_a_choice_that_nobody_listens_to_is_a_warning(
    weights: Callable[..., Weights], tmp_path: Path
) -> None:
    torch.save({"model": weights(1.0), "model_ema": weights(2.0)}, tmp_path / "c.pt")
    with pytest.warns(UserWarning, match="took the weights under model_ema"):
        load_checkpoint(tmp_path / "c.pt", backbone=BACKBONE)


def test_a_key_is_for_files_that_have_keys(weights: Callable[..., Weights], tmp_path: Path) -> None:
    save_file(weights(1.0), tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match="one set of weights without a key"):
        load_checkpoint(tmp_path / "c.safetensors", weights_key="model")


def test_a_prefix_that_no_name_has_is_refused(
    weights: Callable[..., Weights], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no name begins with the prefix 'encoder'; the file"):
        loaded(weights(1.0), tmp_path / "c.pt", prefix="encoder")


def test_two_averages_that_differ_are_named_and_none_is_guessed(
    weights: Callable[..., Weights], tmp_path: Path
) -> None:
    contents = {"model": weights(1.0), "model_ema": weights(2.0), "ema": weights(3.0)}
    with pytest.raises(CheckpointError, match="under model, model_ema, ema; choose one"):
        loaded(contents, tmp_path / "c.pt")
    *found, _ = loaded({**contents, "ema": weights(2.0)}, tmp_path / "c.pt")
    assert found == [2, 2]


@pytest.mark.parametrize("turned", [False, True])
def test_averages_beside_plain_weights_in_one_state_dict(
    turned: bool, weights: Callable[..., Weights], tmp_path: Path
) -> None:
    """Lightning keeps both networks in one state dict, under two prefixes."""
    parts = [weights(1.0, "model."), weights(2.0, "model_ema.")]
    *found, notes = loaded(
        {"state_dict": {**parts[turned], **parts[not turned]}}, tmp_path / "c.pt"
    )
    assert found == [2, 2]
    assert any("took the head under 'model_ema.head.'" in note for note in notes)
