"""Write the trtexec command that measures the same as a benchmark.

The defaults of trtexec 11 differ from those of 10: CUDA graphs and spinning are on, and data
transfers are off. So the command sets every option explicitly, in the syntax of each version.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.artifact.engine_manifest import EngineManifest, read_engine_sidecar
from gsp_deploy.artifact.kind import ENGINE, kind_of
from gsp_deploy.benchmark.settings import BenchmarkSettings
from gsp_deploy.benchmark.timing import Rounds
from gsp_deploy.errors import ModelFileError, UsageError
from gsp_deploy.runtime.batching import InputProfile, plan_chunks

MAJORS = (10, 11)
_PERCENTILES = "50,90,95,99"
_FEWEST = 10


@dataclass(frozen=True)
class Measured:
    """What trtexec runs: an engine, with one input shape and one profile."""

    engine: Path
    input: str
    shape: tuple[int, ...]
    is_dynamic: bool
    profile: int
    plugins: tuple[Path, ...] = ()


def measured(
    engine: Path, batch: int, settings: BenchmarkSettings, plugins: Sequence[Path]
) -> Measured:
    """Read the shape and profile that a benchmark would run from the engine's manifest.

    The engine does not have to run on this machine.

    Raises:
        ModelFileError: there is no manifest next to the engine.
        UsageError: the file is not an engine, or does not take this batch or size.
    """
    if kind_of(engine) is not ENGINE:
        raise UsageError(
            f"{engine}: trtexec measures engines only; build one with `gsp-deploy build`"
        )
    manifest = read_engine_sidecar(engine)
    if manifest is None:
        raise ModelFileError(
            f"{engine}: expected a manifest with its shapes next to it, found none; build it again"
        )
    images = manifest.inputs[0]
    ranges = [profile[images.name] for profile in manifest.profiles]
    profiles = [InputProfile(shapes.min, shapes.opt, shapes.max) for shapes in ranges]
    sizes = _sizes(images, manifest, settings)
    chunks = plan_chunks(profiles, batch, sizes, batch)
    if len(chunks) > 1 or chunks[0].batch != batch:
        allowed = ", ".join(map(str, profiles))
        raise UsageError(f"{engine} takes batches of {allowed} (min:opt:max), not of {batch}")
    return Measured(
        engine,
        images.name,
        (batch, *sizes),
        any(isinstance(size, str) for size in images.shape),
        chunks[0].profile,
        tuple(plugins),
    )


def _sizes(
    images: TensorSpec, manifest: EngineManifest, settings: BenchmarkSettings
) -> tuple[int, ...]:
    """Return the sizes of one image; open sizes come from the settings or the first profile."""
    usual = manifest.profiles[0][images.name].opt
    height = 1 if images.dtype == "uint8" else 2
    sizes = [
        size if isinstance(size, int) else usual[axis] for axis, size in enumerate(images.shape)
    ]
    for axis in (height, height + 1) if settings.size is not None else ():
        if isinstance(images.shape[axis], str):
            assert settings.size is not None
            sizes[axis] = settings.size[axis - height]
    return tuple(sizes[1:])


def trtexec_command(measured: Measured, settings: BenchmarkSettings, major: int) -> str:
    """Return the command for trtexec of a major version, quoted for a shell.

    It copies like the benchmark: copy in, compute and copy out follow one another in one stream.
    """
    words = ["trtexec", f"--loadEngine={measured.engine}"]
    if measured.is_dynamic:
        words.append(f"--shapes={measured.input}:{'x'.join(map(str, measured.shape))}")
        words.append(f"--useProfile={measured.profile}")
    words += [f"--dynamicPlugins={plugin}" for plugin in measured.plugins]
    words += [f"--device={settings.device.partition(':')[2] or 0}", "--infStreams=1"]
    words += _rounds(Rounds.of(settings))
    words += ["--exposeDMA", *_by_version(settings, major), f"--percentile={_PERCENTILES}"]
    return shlex.join(words)


def _rounds(rounds: Rounds) -> Sequence[str]:
    if rounds.seconds is None:
        return ["--duration=0", f"--iterations={rounds.repeats}"]
    return [f"--duration={rounds.seconds:g}", f"--iterations={_FEWEST}"]


def _by_version(settings: BenchmarkSettings, major: int) -> Sequence[str]:
    spins = settings.wait == "spin"
    if major >= 11:
        graphs = [] if settings.cuda_graphs else ["--noCudaGraph"]
        return ["--includeDataTransfers", *graphs, *([] if spins else ["--noSpinWait"])]
    graphs = ["--useCudaGraph"] if settings.cuda_graphs else []
    return [*graphs, *(["--useSpinWait"] if spins else [])]
