"""What the launcher refuses, which plan it takes, and how many launches that is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .building import needs_compiler
from .cases import PLANS, Case, draw_inputs, launches_of, run_cases

pytestmark = needs_compiler

INVALID, NOT_SUPPORTED = 1, 801
SMALL = Case(1, 4, 4, 2, 4)
SHARED_BYTES_EVERYWHERE = 48 * 1024


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ratio": 0.0}, "transport_ratio must be above 0 and at most 1, got 0"),
        ({"ratio": 1.5}, "transport_ratio must be above 0 and at most 1, got 1.5"),
        ({"ratio": float("nan")}, "transport_ratio must be above 0 and at most 1, got nan"),
        ({"gamma": 0.0}, "entropy_weight must be above 0 and at most 1e6, got 0"),
        ({"gamma": float("inf")}, "entropy_weight must be above 0 and at most 1e6, got inf"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"solver": "certified"}, "grid_points must be from 1 to 4096, got 0 for the certified"),
        ({"solver": "certified", "grid_points": 4097}, "grid_points must be from 1 to 4096, got"),
        ({"grid_points": 63}, "grid_points must be 0 unless the solver is certified, got 63"),
        ({"initial_scale": -1.0}, "initial_scale must be 0 (for mu) or from 1e-30 to 1e30, got -1"),
        ({"pooling": "gem", "power": 0.0}, "power must be from 1e-3 to 1e3 in size, got 0"),
        ({"pooling": "gmp", "normalize": True}, "normalize must be false for gmp and gem"),
        ({"locations": 4097}, "locations must be from 1 to 4096, got 4097"),
        ({"prototypes": 1025}, "num_prototypes must be from 1 to 1024, got 1025"),
        ({"embedding_dim": 4097}, "embedding_dim must be from 1 to 4096, got 4097"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(
    program: Path, change: dict[str, Any], says: str
) -> None:
    case = replace(SMALL, **change)
    (found,) = run_cases(program, [(case, draw_inputs(case))])
    assert found.error == INVALID
    assert found.problem.startswith(says)


@pytest.mark.parametrize(("kind", "size"), [("float32", 4), ("float16", 2)])
def test_an_address_between_two_elements_is_refused(program: Path, kind: str, size: int) -> None:
    case = replace(SMALL, misaligned=-1, input_type=kind)
    (found,) = run_cases(program, [(case, draw_inputs(case))])
    assert found.error == INVALID
    says = f"embeddings must begin at a multiple of its element's {size} bytes, got 0x"
    assert found.problem.startswith(says)


@pytest.mark.parametrize("plan", PLANS)
def test_an_empty_batch_launches_nothing(program: Path, plan: str) -> None:
    assert launches_of(program, replace(SMALL, batch=0, plan=plan)) == []


def test_a_cluster_needs_a_device_that_has_clusters(program: Path) -> None:
    case = replace(SMALL, plan="cluster")
    (found,) = run_cases(program, [(case, draw_inputs(case))], {"EMULATION_CAPABILITY": "87"})
    assert found.error == NOT_SUPPORTED


def test_the_pooling_is_one_launch(program: Path) -> None:
    plain = Case(batch=2, embedding_dim=64, normalize=True, weights=True, attributes=False)
    (block,) = launches_of(program, replace(plain, plan="block"))
    (cluster,) = launches_of(program, replace(plain, plan="cluster"))
    assert (block.blocks, block.cluster) == (2, 1)
    assert (cluster.blocks, cluster.cluster) == (16, 8)
    assert len(launches_of(program, replace(plain, plan="block", attributes=True))) == 2
    assert len(launches_of(program, replace(plain, plan="split"))) == 3
    assert len(launches_of(program, replace(plain, plan="split", normalize=False))) == 2
    bound = replace(plain, normalize=False, residual=True, bound=True)
    assert len(launches_of(program, replace(bound, plan="split"))) == 3
    assert len(launches_of(program, replace(bound, plan="block"))) == 1


@pytest.mark.parametrize(
    ("capability", "change", "blocks", "clusters"),
    [
        (90, {"batch": 1}, 8, 8),
        (87, {"batch": 1}, 1, 1),
        (90, {"batch": 17, "locations": 1}, 17, 1),  # 17 clusters, 132 multiprocessors
    ],
)
def test_the_plan_follows_shape_and_device(
    program: Path, capability: int, change: dict[str, Any], blocks: int, clusters: int
) -> None:
    case = replace(Case(plan="auto", embedding_dim=8, attributes=False), **change)
    (launch,) = launches_of(program, case, capability)
    assert (launch.blocks, launch.cluster) == (blocks, clusters)


def test_few_images_with_much_work_are_split(program: Path) -> None:
    case = Case(1, 70, 2048, 65, plan="auto", attributes=False, input_type="float16")
    tiles, slices = launches_of(program, case, capability=80)
    assert (tiles.blocks, slices.blocks) == (2, 8)


def test_a_batch_may_be_larger_than_a_grid_has_rows(program: Path) -> None:
    """65,535 is the most that a grid has of rows; images are columns, of which it has 2^31 - 1."""
    images = 70_000
    case = Case(images, 1, 1, 130, 300, pooling="gmp", attributes=True)
    for plan, blocks in (("block", (1, 3)), ("cluster", (8, 3)), ("split", (1, 2, 3))):
        launches = launches_of(program, replace(case, plan=plan))
        assert tuple(launch.blocks / images for launch in launches) == blocks


def test_no_shape_needs_more_shared_memory_than_every_device_gives(program: Path) -> None:
    extreme = Case(1, 4096, 4096, 1, normalize=True, ratio=1, attributes=False)
    for kind in ("float32", "float16"):
        (launch,) = launches_of(program, replace(extreme, input_type=kind))
        assert launch.shared <= SHARED_BYTES_EVERYWHERE
