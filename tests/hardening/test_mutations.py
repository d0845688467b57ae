"""500 damaged copies of each kind of file open, or raise our error in one line; none crashes.

A checkpoint or an archive of PyTorch that opens is as it was saved; an ONNX file has no checksum of
its own, and may open as another one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gsp_deploy import open_session
from gsp_deploy.artifact import sidecar_path
from gsp_deploy.errors import ModelFileError

from .mutations import FORMS, Tally, mutate, try_mutations

COUNT = 500


def check(tally: Tally, allowed: set[str], refused_at_least: int) -> None:
    """Check the outcomes against the allowed ones; report any other with its number."""
    others = {seen: number for seen, number in tally.examples.items() if seen not in allowed}
    assert not others
    assert sum(tally.outcomes.values()) == COUNT
    refused = sum(n for seen, n in tally.outcomes.items() if seen.endswith("Error"))
    assert refused >= refused_at_least


def words(tally: Tally) -> str:
    return ", ".join(f"{seen} {count}" for seen, count in sorted(tally.outcomes.items()))


@pytest.mark.parametrize(
    ("kind", "least_refused", "may_differ"),
    [
        ("checkpoint", COUNT - 10, False),
        ("state-dict", COUNT // 2, False),  # half of so small an archive is padding
        ("onnx", COUNT // 6, True),
        ("onnx-inspection", COUNT // 6, True),
    ],
)
def test_damaged_models(
    kind: str, least_refused: int, may_differ: bool, head_files: dict[str, Path], tried
) -> None:
    tally = try_mutations(kind, head_files[kind], COUNT)
    allowed = {"CheckpointError", "ConfigError", "ModelFileError", "UsageError", "opens"}
    check(tally, allowed | ({"opens, other result"} if may_differ else set()), least_refused)
    tried("Damaged files", f"{COUNT} mutations of a file: {kind}", words(tally))


def test_damaged_plans_never_reach_tensorrt(
    workshop: Path, make_engine, tmp_path: Path, tried
) -> None:
    """The manifest's hash protects the plan, because TensorRT does not check what it reads."""
    engine = make_engine(workshop / "model.onnx", tmp_path / "head.engine")
    tally = try_mutations("plan", engine, COUNT)
    # a stretch that was zeros already may be replaced by zeros
    check(tally, {"ModelFileError", "opens"}, COUNT - 5)
    tried("Damaged files", f"{COUNT} mutations of a file: plan", words(tally))
    tally = try_mutations("plan-manifest", Path(f"{engine}.json"), COUNT)
    check(tally, {"ModelFileError", "opens", "opens, other result"}, COUNT // 3)
    tried("Damaged files", f"{COUNT} mutations of a file: plan-manifest", words(tally))


def test_a_damaged_export_is_told_by_the_hash_beside_it(
    head_files: dict[str, Path], tmp_path: Path
) -> None:
    """Without the hash, a model with a flipped bit in a weight opens and embeds differently."""
    sound, path = head_files["onnx"], tmp_path / "model.onnx"
    sidecar_path(path).write_bytes(sidecar_path(sound).read_bytes())
    for number in range(2 * len(FORMS)):
        path.write_bytes(mutate(sound.read_bytes(), number))
        with pytest.raises(ModelFileError, match=r"SHA-256 of model\.onnx differs"):
            open_session(path)
