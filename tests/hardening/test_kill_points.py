"""SIGKILL before every system call that changes an output leaves no mixed and no lost files."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from builder_double import tensorrt_double

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.artifact.engine_manifest import PrecisionSummary
from gsp_deploy.base.scratch import settle
from gsp_deploy.images.files import evenly_spaced

from .killing import run_and_kill, state_of
from .workshop import contents

KILLED = -9
# `make tried` kills at every state of the outputs, the tests at some, evenly spaced.
MOST_KILLS = None if "GSP_TRIED" in os.environ else 16


def as_they_are() -> None:
    """Change nothing."""


def build_with_a_double() -> None:
    """Let `build` write a stand-in for TensorRT's plan; all other steps are the real ones."""
    from gsp_deploy.engine import build, memory
    from gsp_deploy.engine.machine import Machine
    from gsp_deploy.engine.network import ParsedNetwork
    from gsp_deploy.engine.retries import Plan

    tensorrt = tensorrt_double()
    images = TensorSpec("images", "float32", (-1, 3, 32, 32))
    embedding = TensorSpec("embedding", "float32", (-1, 8))
    network = SimpleNamespace(num_layers=9)

    def parse(found: object, source: Path) -> ParsedNetwork:
        return ParsedNetwork(tensorrt, None, network, None, source, (images,), (embedding,))

    def plan(job: object, targets: tuple[str, ...], may_narrow: bool) -> Plan:
        data = job.parsed.source.read_bytes()[::-1]
        return Plan(data, ("8.6",), memory.Effort(), 1.0)

    summary = PrecisionSummary("fp32", "network", {"float32": 9})
    build.load_tensorrt = lambda flavour: tensorrt
    build.Machine = SimpleNamespace(here=lambda flavour: replace(Machine.here(), device="a GPU"))
    build.parse_onnx = parse
    build.build_plan = plan
    build.check_precision = lambda *_: summary
    build.check_engine = lambda *_: summary
    build.peak_memory = lambda: contextlib.nullcontext(memory.PeakMemory())
    build.BuildOptions.check_against = lambda *_: None
    build.choose_targets = lambda *_: (("8.6",), False)


def tune_without_measuring() -> None:
    """Let `tune` copy one model for every candidate, and know its figures."""
    from gsp_deploy.artifact import sidecar_path
    from gsp_deploy.artifact.artifact import Artifact
    from gsp_deploy.base.files import replacing_together, write_text
    from gsp_deploy.tuning import plot
    from gsp_deploy.tuning.measurement import Workshop
    from gsp_deploy.tuning.study import Quality, Speed

    def export(self: Workshop, candidate: object, path: Path, sibling: Path | None) -> Artifact:
        source = self.forms.path.with_suffix(".onnx")
        with replacing_together(sidecar_path(path), path) as (beside, model):
            shutil.copyfile(sidecar_path(source), beside)
            shutil.copyfile(source, model)
        return Artifact.of(path)

    def draw(tuning: object, figure: Path, chosen: object = None) -> None:
        write_text(figure, "a plot")

    plot.plot_front = draw
    Workshop.export = export
    Workshop.score = lambda self, made, *_: Quality(made.manifest.sha256, 2, 50.0, 50.0, False, ())
    Workshop.time = lambda self, model, reference, batches, *_: dict.fromkeys(
        batches, Speed(1.0, 1.0, 1.0, 2.0)
    )


@dataclass(frozen=True)
class Case:
    """A command twice: what it writes first, and what then replaces it.

    Attributes:
        first, then: arguments; `@` is the workshop, `>` the folder of outputs.
        together: files that are one thing, the main one last.
        prepare: changes the process that runs the command.
        apart: outputs that are whole each, and may be of either run.
        grows: how the names of files begin that are written many times in one run.
        unlike: files whose bytes differ between runs.
    """

    first: str
    then: str
    together: tuple[str, ...] = ()
    prepare: Callable[[], None] = as_they_are
    apart: bool = False
    grows: str = ""
    unlike: frozenset[str] = frozenset()


CASES: Mapping[str, Case] = {
    "embed npy": Case(
        "embed|@model.onnx|@images/classes|-o|>t.npy|--force",
        "embed|@model.onnx|@images/names|-o|>t.npy|--force",
        ("t.ids.txt", "t.npy"),
    ),
    "embed npz": Case(
        "embed|@model.onnx|@images/classes|-o|>t.npz|--force",
        "embed|@model.onnx|@images/names|-o|>t.npz|--force",
        unlike=frozenset({"t.npz"}),
    ),
    "index": Case(
        "index|@model.onnx|@images/classes|-o|>g|--force",
        "index|@model.onnx|@images/names|-o|>g|--force",
        ("g/files.json", "g/index.faiss", "g/index.json"),
    ),
    "index-add": Case(
        "index|@model.onnx|@images/classes|-o|>g|--force",
        "index-add|@model.onnx|@images/names|--to|>g",
        ("g/files.json", "g/index.faiss", "g/index.json"),
    ),
    "package": Case(
        "package|@model.onnx|-o|>b|--force|--images|@images/classes",
        "package|@model.onnx|-o|>b|--force|--images|@images/names",
        ("b/golden/images.npy", "b/SHA256SUMS"),
    ),
    "export": Case(
        "export|--from|@model.onnx|--pooling|plugin|-o|>m.onnx|--force",
        "export|--from|@model.onnx|--pooling|plugin|--bare|--external-data|-o|>m.onnx|--force",
        ("m.onnx.json", "m.onnx"),
    ),
    "adopt": Case(
        "adopt|@any.onnx|-o|>m.onnx|--force",
        "adopt|@any.onnx|-o|>m.onnx|--normalize|--external-data|--force",
        ("m.onnx.json", "m.onnx"),
    ),
    "build": Case(
        "build|@model.onnx|-o|>m.engine|--force|--batch|1:2:4",
        "build|@model.onnx|-o|>m.engine|--force|--batch|1:2:8",
        ("m.engine.json", "m.engine"),
        build_with_a_double,
    ),
    "convert": Case(
        "convert|@head.pt|-o|>c.safetensors|--force|--transport-ratio|0.3",
        "convert|@head.pt|-o|>c.safetensors|--force|--transport-ratio|0.4",
    ),
    "explain": Case(
        "explain|@model.safetensors|@images/names|--limit|2|-o|>maps|--force",
        "explain|@model.onnx|@images/names|--limit|2|-o|>maps|--force",
        apart=True,
    ),
    "report": Case(
        "report|@model.onnx.json|-o|>r.html|--markdown|>r.md|--force|--title|One",
        "report|@model.onnx.json|-o|>r.html|--markdown|>r.md|--force|--title|Two",
        ("r.md", "r.html"),
    ),
    "train": Case(
        "train|@recipe.toml|-o|>run|--set|run.steps=1",
        "train|@recipe.toml|-o|>run|--set|run.steps=1|--force|--seed|3",
        apart=True,
        grows="run/",
    ),
    "tune": Case(
        "tune|@model.safetensors|--data|folder:@images/classes|--folder|>s|--max-drop|5|-o|>m.onnx"
        "|--precision|fp32|--steps|certified|--size|32|--batch|1|--force",
        "tune|@model.safetensors|--data|folder:@images/classes|--folder|>s|--max-drop|5|-o|>m.onnx"
        "|--precision|fp32|--steps|certified,1|--size|32|--batch|1|--force",
        ("m.onnx.tune.json", "m.onnx.json", "m.onnx"),
        tune_without_measuring,
        apart=True,
        grows="s/",
    ),
}


# Their tests are in a file of their own, so that another worker can take them.
LONG = ("package", "train", "tune")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in LONG])
def test_killed_before_every_change(name: str, workshop: Path, tmp_path: Path, tried) -> None:
    kill_before_every_change(name, workshop, tmp_path, tried)


def kill_before_every_change(
    name: str, workshop: Path, tmp_path: Path, tried: Callable[..., None]
) -> None:
    """Run a case's second command once for each change that it makes, and kill it there."""
    case, root, log = CASES[name], tmp_path / "output", tmp_path / "log"

    def words(command: str) -> list[str]:
        return command.replace("@", f"{workshop}/").replace(">", f"{root}/").split("|")

    def run(command: str, at: int | None = None) -> int:
        return run_and_kill(words(command), root, log, at, case.prepare)

    root.mkdir()
    assert run(case.first) == 0, log.with_suffix(".err").read_text()
    before = Path(shutil.copytree(root, tmp_path / "before"))
    assert run(case.then) == 0, log.with_suffix(".err").read_text()
    points = [line.split(" ", 1) for line in log.read_text().splitlines()]
    # Some changes leave the files as they are; one kill is enough for each state of the files.
    firsts = {state: at for at, (state, _) in reversed(list(enumerate(points)))}
    kills = sorted(firsts.values())
    old, new, tidied = contents(before), contents(root), set()
    for at in evenly_spaced(kills, MOST_KILLS or len(kills)):
        point = points[at][1]
        shutil.rmtree(root)
        shutil.copytree(before, root)
        assert run(case.then, at) == KILLED, point
        seen = visible(root)
        assert_not_mixed(case, seen, old, new, point)
        for main in {name.split("/")[0] for name in (*old, *new)}:
            settle(root / main)
        seen = visible(root)
        if not case.apart:
            assert same(case, seen, old) or same(case, seen, new), f"{point}: {sorted(seen)}"
        assert_not_mixed(case, seen, old, new, point)
        if (left := state_of(root)) not in tidied:  # many points leave the same
            tidied.add(left)
            assert run(case.then) == 0, log.with_suffix(".err").read_text()
            assert same(case, contents(root), new), f"{point}: {sorted(contents(root))}"
    tried(
        "Signals",
        f"{name}: SIGKILL at each of the {len(kills)} states of its outputs that its "
        f"{len(points)} changes leave",
        "every file is whole, old or new; files that belong together are from one run, or the main "
        "one is missing; the next reader or run completes the moves and removes leftovers",
    )


def visible(folder: Path) -> dict[str, bytes]:
    """Return the files, except those below hidden folders."""
    found = contents(folder)
    return {
        name: data
        for name, data in found.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }


def same(case: Case, one: Mapping[str, bytes], other: Mapping[str, bytes]) -> bool:
    """Whether two folders have the same contents, except files with bytes that always differ."""
    return one.keys() == other.keys() and all(
        one[name] == other[name] for name in one.keys() - case.unlike
    )


def assert_not_mixed(
    case: Case,
    seen: Mapping[str, bytes],
    old: Mapping[str, bytes],
    new: Mapping[str, bytes],
    point: str,
) -> None:
    """Every file is from one of the runs, and files that belong together are from the same run."""
    for name, data in seen.items():
        may_be_other = name in case.unlike or (case.grows and name.startswith(case.grows))
        assert may_be_other or data in (old.get(name), new.get(name)), f"{point}: {name}"
    if not case.together or case.together[-1] not in seen:
        return
    parts = [(seen.get(n), old.get(n), new.get(n)) for n in case.together]
    of_old = all(found == a for found, a, _ in parts)
    of_new = all(found == b for found, _, b in parts)
    assert of_old or of_new, f"{point}: {sorted(seen)}"
