"""The ranges of activations, by every method, and the cache that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gsp_deploy import EmbeddingModel
from gsp_deploy.export.assembly import Draft
from gsp_deploy.export.calibration import Calibration
from gsp_deploy.export.quantisation import range_cache, ranges
from gsp_deploy.export.quantisation.layers import find_layers
from gsp_deploy.images.normalisation import normalise

from .gratings import SPEC, calibration, gratings, small_model


def activations(model: EmbeddingModel) -> tuple[np.ndarray, np.ndarray]:
    """The network's input, and the output of its first unit, by torch."""
    images = torch.from_numpy(normalise(gratings(), SPEC))
    with torch.no_grad():
        return images.numpy(), model.backbone.units[0](images).numpy()


def first_output(draft: Draft) -> str:
    activation = find_layers(draft.backbone)[0].activation
    node = next(node for node in draft.backbone.graph if node.name == activation)
    return str(node.outputs[0].name)


def test_min_max_ranges_are_the_extremes(healthy: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    images, first = activations(small_model(sabotaged=False))
    found = ranges.calibrate_ranges(healthy.backbone, calibration(), "min-max")
    assert found["images"] == pytest.approx((images.min(), images.max()), rel=1e-6)
    assert found[first_output(healthy)] == pytest.approx((0, first.max()), rel=1e-5)
    monkeypatch.setattr(ranges, "_CHUNK_BYTES", 1)  # one image at a time
    again = ranges.calibrate_ranges(healthy.backbone, calibration(), "min-max")
    assert list(again) == list(found)
    np.testing.assert_allclose(list(again.values()), list(found.values()), rtol=1e-5)


def test_percentile_cuts_the_outermost_values(healthy: Draft) -> None:
    images, _ = activations(small_model(sabotaged=False))
    low, high = ranges.calibrate_ranges(healthy.backbone, calibration(), "percentile")["images"]
    sizes = np.abs(images)
    wanted = float(np.quantile(sizes, ranges.SETTINGS["percentile"]["percentile"] / 100))
    bin_width = float(sizes.max()) / ranges.SETTINGS["percentile"]["num_bins"]
    assert high == pytest.approx(wanted, abs=2 * bin_width)
    assert max(-low, high) == pytest.approx(wanted, abs=2 * bin_width)


def test_entropy_clips_a_long_tail_and_keeps_a_flat_distribution(
    healthy: Draft, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ranges.calibrate_ranges(healthy.backbone, calibration(), "entropy")
    extremes = ranges.calibrate_ranges(healthy.backbone, calibration(), "min-max")
    shares = {name: max(map(abs, found[name])) / max(map(abs, extremes[name])) for name in found}
    assert set(found) == set(extremes)
    assert 0 < min(shares.values()) < 0.9  # some tail is cut
    assert max(shares.values()) <= 1 + 1e-6
    assert capsys.readouterr().out == ""  # the calibrators' prints stay out of stdout


def test_ranges_are_kept_and_used_again_while_everything_is_the_same(
    healthy: Draft, tmp_path: Path, calibrations: Callable[[], int]
) -> None:
    cache = range_cache.cache_path(tmp_path / "model.onnx")
    assert cache.name == "model.onnx.calibration.json"
    lines: list[str] = []

    def ranges_of(images: Calibration, method: str = "min-max") -> ranges.Ranges:
        return range_cache.cached_ranges(healthy.backbone, images, method, cache, lines.append)

    first = ranges_of(calibration())
    assert calibrations() == 1
    assert ranges_of(calibration()) == first
    assert calibrations() == 1
    assert cache.name in lines[-1]
    changed = gratings()
    changed[3, 5, 5, 0] ^= 1
    ranges_of(Calibration(changed, "one pixel changed", SPEC))
    assert calibrations() == 2
    ranges_of(Calibration(changed, "one pixel changed", SPEC), "percentile")
    assert calibrations() == 3
    cache.write_text(cache.read_text()[:-40])
    ranges_of(Calibration(changed, "one pixel changed", SPEC), "percentile")
    assert calibrations() == 4
