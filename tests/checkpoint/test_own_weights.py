"""Weights of a network of one's own: any one prefix, and a stated rule if several fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from gsp_deploy.checkpoint import load_weights
from gsp_deploy.errors import CheckpointError


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def weights(value: float, prefix: str = "") -> dict[str, Tensor]:
    state = network().state_dict()
    state["0.bias"] = torch.full((4,), value)
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def loaded(contents: Any, path: Path, **options: Any) -> tuple[float, list[str]]:
    """Return the number that was loaded, and the lines for the user."""
    if path.suffix == ".safetensors":
        save_file(contents, path)
    else:
        torch.save(contents, path)
    model, notes = network(), []
    load_weights(model, path, announce=notes.append, **options)
    return model[0].bias[0].item(), notes


@pytest.mark.parametrize("prefix", ["", "module.", "model.encoder."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_any_one_prefix_fits(prefix: str, suffix: str, tmp_path: Path) -> None:
    assert loaded(weights(3.0, prefix), tmp_path / f"w{suffix}") == (3, [])


def test_tensors_that_nothing_needs_are_named(tmp_path: Path) -> None:
    contents = {**weights(3.0, "net."), "classifier.weight": torch.ones(2)}
    assert loaded(contents, tmp_path / "w.pt") == (3, ["1 tensor not used: classifier.weight"])


class Tied(nn.Module):
    """One convolution under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.second = nn.Sequential(self.first, nn.Conv2d(3, 3, 1))


def test_a_weight_under_two_names_may_be_stored_under_one(tmp_path: Path) -> None:
    """safetensors' own function for models with such weights drops a name."""
    saved, model = Tied(), Tied()
    save_model(saved, str(tmp_path / "w.safetensors"))
    load_weights(model, tmp_path / "w.safetensors")
    assert all(
        torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items()
    )


def test_averaged_weights_go_first_and_a_line_says_so(tmp_path: Path) -> None:
    contents = {**weights(1.0, "model."), **weights(2.0, "model_ema.")}
    value, notes = loaded(contents, tmp_path / "w.safetensors")
    assert value == 2
    assert notes[0] == "took the weights under 'model_ema.'; there are also model."
    value, _ = loaded(contents, tmp_path / "w.safetensors", prefix="model.")
    assert value == 1
    value, notes = loaded(
        {"state_dict": weights(1.0), "state_dict_ema": weights(2.0)}, tmp_path / "w.pt"
    )
    assert (value, notes[0][:37]) == (2, "took the weights under state_dict_ema")


@pytest.mark.parametrize("turned", [False, True])
def test_neither_of_two_encoders_is_guessed(turned: bool, tmp_path: Path) -> None:
    parts = [weights(1.0, "encoder_q."), weights(2.0, "encoder_k.")]
    contents = {**parts[turned], **parts[not turned]}
    line = r"found 2 \('encoder_k.', 'encoder_q.'\); choose one with --prefix"
    with pytest.raises(CheckpointError, match=line):
        loaded(contents, tmp_path / "w.pt")
    assert loaded(contents, tmp_path / "w.pt", prefix="encoder_k")[0] == 2
    with pytest.raises(CheckpointError, match="0 of them under 'other'"):
        loaded(contents, tmp_path / "w.pt", prefix="other")


def test_two_equal_encoders_are_no_choice(tmp_path: Path) -> None:
    state = weights(1.0)
    contents = {f"encoder_{end}.{name}": value for end in "qk" for name, value in state.items()}
    assert loaded(contents, tmp_path / "w.pt")[0] == 1


def test_a_set_under_a_key_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    contents = {"student": weights(1.0), "teacher": weights(2.0)}
    with pytest.raises(CheckpointError, match="there are weights under student, teacher"):
        loaded(contents, tmp_path / "w.pt")
    assert loaded(contents, tmp_path / "w.pt", weights_key="teacher")[0] == 2
    with pytest.raises(CheckpointError, match="key 'ema', and there are weights under student"):
        loaded(contents, tmp_path / "w.pt", weights_key="ema")


def test_weights_of_another_network_name_what_is_missing(tmp_path: Path) -> None:
    contents = {name: value for name, value in weights(1.0).items() if name != "1.running_var"}
    with pytest.raises(
        CheckpointError, match=r"it has no 1\.running_var, and begins with 0\.weight"
    ):
        loaded(contents, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="size mismatch") as raised:
        loaded({**weights(1.0), "0.bias": torch.ones(9)}, tmp_path / "w.pt")
    assert "\n" not in str(raised.value)


class Touches:
    """Writes a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_hostile_file_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path, touched = tmp_path / "w.pt", tmp_path / "touched"
    path.write_bytes(pickle.dumps({**weights(1.0), "x": Touches(touched)}))
    with pytest.raises(CheckpointError):
        load_weights(network(), path)
    torch.save({**weights(1.0), "x": Touches(touched)}, path)
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_weights(network(), path)
    assert not touched.exists()
