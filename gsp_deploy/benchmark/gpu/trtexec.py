"""The trtexec command that measures what a benchmark measured.

The defaults of trtexec 11 are not those of 10: CUDA graphs and spinning are on and data transfers
are off. So everything is said outright, in the words that each version has.
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
    """What is run: an engine, one shape of its input, in one profile."""

    engine: Path
    input: str
    shape: tuple[int, ...]
    is_dynamic: bool
    profile: int
    plugins: tuple[Path, ...] = ()


def measured(
    engine: Path, batch: int, settings: BenchmarkSettings, plugins: Sequence[Path]
) -> Measured:
    """Return what a benchmark would run, from the engine's manifest; it need not run here.

    Raises:
        ModelFileError: there is no manifest beside the engine.
        UsageError: it is no engine, or takes no such batch or size.
    """
    if kind_of(engine) is not ENGINE:
        raise UsageError(f"{engine}: trtexec measures engines, as `gsp-deploy build` makes them")
    manifest = read_engine_sidecar(engine)
    if manifest is None:
        raise ModelFileError(f"{engine}: no manifest beside it that tells its shapes")
    images = manifest.inputs[0]
    ranges = [profile[images.name] for profile in manifest.profiles]
    profiles = [InputProfile(shapes.min, shapes.opt, shapes.max) for shapes in ranges]
    sizes = _sizes(images, manifest, settings)
    chunks = plan_chunks(profiles, batch, sizes, batch)
    if len(chunks) > 1 or chunks[0].batch != batch:
        told = ", ".join(map(str, profiles))
        raise UsageError(f"{engine} takes batches of {told} (min:opt:max), not of {batch}")
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
    """Return the sizes of one image, the open ones as the settings or the first profile say."""
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

    It copies as the benchmark does: in, compute and out one after another in one stream.
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
