"""What a session makes of images, on doubles of device and engine (see tests/doubles)."""

from __future__ import annotations

import numpy as np
import pytest
from engine_bench import ALL, SIZE, assert_same, maps, profile

from gsp_deploy.errors import UsageError


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("count", [1, 4, 8, 9, 23])
def test_any_number_of_images(make_bench, expected, count: int, graphs: bool) -> None:
    bench = make_bench()
    with bench.open(cuda_graphs=graphs) as session:
        for seed in range(4):  # the first run, the captured one, and its launches
            assert_same(session, expected, maps(count, seed=seed))
    bench.nothing_is_left()


def test_no_images(make_bench) -> None:
    with make_bench().open() as session:
        found = session.run(maps(0), ALL)
    assert [found[name].shape for name in ALL] == [(0, 5), (0, 4), (0, *SIZE)]


def test_padding_is_zeros_and_does_not_show(make_bench, expected) -> None:
    bench = make_bench(profile(4, 4, 4))
    with bench.open() as session:
        assert_same(session, expected, maps(4))
        assert_same(session, expected, maps(3, seed=1))
        assert "run 4" in bench.device.log
        assert not {"run 3", "run 1"} & set(bench.device.log)
        host = session.runner._on_host[session.engine.input.name].memory
        assert not host.view(np.float32).reshape(4, -1)[3].any()


def test_sizes_and_profiles_are_chosen_for_the_batch(make_bench, expected) -> None:
    bench = make_bench(
        profile(1, 1, 1), profile(2, 4, 8), profile(1, 2, 2, size=(5, 5), most=(9, 9))
    )
    with bench.open() as session:
        for inputs in (maps(9), maps(3, (5, 7)), maps(1), maps(2, (9, 9))):
            assert_same(session, expected, inputs)
        assert [(s.profile, s.shape[0]) for s in session.runner._shapes.values()] == [
            (1, 8), (2, 2), (2, 1), (0, 1), (2, 2),
        ]  # fmt: skip
        with pytest.raises(UsageError, match=r"1:2:2x6x5:5:9x5:5:9.*got images of 6x4x4"):
            session.embed(maps(1, (4, 4)))
    bench.nothing_is_left()


def test_float16_at_the_ends(make_bench, expected) -> None:
    with make_bench(precision="fp16").open() as session:
        assert session.info.input.dtype == "float16"
        inputs = maps(5)
        np.testing.assert_allclose(session.embed(inputs), expected.embed(inputs), atol=3e-3)
        with pytest.raises(UsageError, match="too large for the model's float16"):
            session.embed(inputs * 1e6)


def test_max_batch_limits_what_goes_through_at_once(make_bench, expected) -> None:
    bench = make_bench()
    with bench.open(max_batch=3) as session:
        assert_same(session, expected, maps(7))
        assert {"run 3", "run 1"} == {line for line in bench.device.log if line.startswith("run")}
        with pytest.raises(UsageError, match="takes 3 images at once, got 4"):
            session.infer(maps(4), ALL)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_says_how_far_off_it_is(make_bench, expected, precision: str) -> None:
    """Its certificates are float32 beside outputs of any precision; padding has none."""
    bench = make_bench(profile(4, 4, 4), precision=precision, outputs=("weights", "residual"))
    with bench.open() as session:
        assert session.info.outputs == ("embedding", "weights", "residual", "embedding_bound")
        types = {tensor.name: str(tensor.dtype) for tensor in session.engine.outputs}
        assert types["residual"] == types["embedding_bound"] == "float32"
        found = session.run(maps(7), ("residual", "embedding_bound"))
    weights = expected.run(maps(7), ("weights",))["weights"]
    error = np.abs(weights.mean(axis=(1, 2)) - 1)
    np.testing.assert_allclose(found["residual"], error, atol=1e-6 if precision == "fp32" else 2e-3)
    assert found["embedding_bound"].shape == (7,)
    bench.nothing_is_left()
