"""Put the smallest network of every timm family through the whole chain, and write the table.

    python benchmarks/backbones.py benchmarks/backbones.jsonl     # runs what is not there yet
    python benchmarks/backbones.py benchmarks/backbones.jsonl --table docs/backbones.md

Each network has a process of its own, with a time limit, and leaves one line in the file. Weights
are random: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STAGES = ("train", "fp32", "fp16", "int8", "plan fp32", "plan fp16")
SIDES = (64, 96, 112, 126, 128, 160, 192, 224, 240, 256, 288, 299, 320, 331, 384, 512)
FEWEST_LOCATIONS = 4
IMAGES = 16
TARGET = "8.6"
START, END = "<!-- table: benchmarks/backbones.py -->", "<!-- end of the table -->"


def main() -> None:
    """Run one family, all that are missing, or write the table."""
    asked = _arguments()
    if asked.family:
        _run_family(asked.family)
    elif asked.table:
        _write_table(asked.results, asked.table, asked.most)
    else:
        _run_all(asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="one JSON line per network; created if missing")
    parser.add_argument("--family", help="run this family alone, and print its line")
    parser.add_argument("--only", nargs="*", default=(), help="families to run")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one network")
    parser.add_argument("--most", type=float, default=100, help="million parameters, at most")
    parser.add_argument("--table", type=Path, help="page to write the table into")
    return parser.parse_args()


def _run_all(asked: argparse.Namespace) -> None:
    done = set(_lines(asked.results))
    found = _smallest_of_all(asked.results.with_suffix(".picks.json"))
    for family, (_, count) in sorted(found.items(), key=lambda item: item[1][1]):
        if family in done or count > asked.most * 1e6 or (asked.only and family not in asked.only):
            continue
        line = _in_its_own_process(asked.results, family, asked.limit)
        with asked.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(family, {s: line.get(s, {}).get("line", "-") for s in STAGES}, flush=True)


def _in_its_own_process(results: Path, family: str, limit: float) -> dict[str, Any]:
    """Return the last line that the process printed: it prints one after each stage."""
    command = [sys.executable, __file__, str(results), "--family", family]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        try:
            code = subprocess.run(
                command, stdout=out, stderr=subprocess.DEVNULL, timeout=limit, check=False
            ).returncode
            ended = None if code == 0 else f"the process ended with code {code}"
        except subprocess.TimeoutExpired:
            ended = f"not finished after {limit:g} s"
        out.seek(0)
        printed = [text for text in out.read().splitlines() if text.startswith("{")]
    line: dict[str, Any] = json.loads(printed[-1]) if printed else {"family": family}
    return line if ended is None else {**line, "ended": ended}


def _smallest_of_all(cache: Path) -> dict[str, tuple[str, int]]:
    """Return the smallest network of each family and its number of parameters, found once."""
    if not cache.exists():
        import timm

        found = {family: _smallest(family) for family in timm.list_modules()}
        known = {family: pick for family, pick in found.items() if pick is not None}
        cache.write_text(json.dumps(known), encoding="utf-8")
    found: dict[str, tuple[str, int]] = json.loads(cache.read_text(encoding="utf-8"))
    return found


def _smallest(family: str) -> tuple[str, int] | None:
    """Build every network of a family without memory; timm's own test networks do not count."""
    import timm
    import torch

    counts = []
    for name in timm.list_models(module=family):
        if name.startswith("test_"):
            continue
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = timm.create_model(name)
        except Exception:  # a constructor that needs real memory, or weights
            continue
        counts.append((sum(p.numel() for p in network.parameters()), name))
    return (min(counts)[1], min(counts)[0]) if counts else None


def _run_family(family: str) -> None:
    """Run the stages one after the other; print the line after each."""
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    cache = Path(sys.argv[1]).with_suffix(".picks.json")
    name, count = _smallest_of_all(cache)[family]
    line: dict[str, Any] = {"family": family, "name": name, "parameters": count}
    try:
        line["side"], line["channels"], line["map"] = _smallest_size(name)
    except Exception as error:
        line["refused"] = _one_line(error)
        print(json.dumps(line), flush=True)
        return
    print(json.dumps(line), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for stage, run in _stages(name, line, Path(folder)):
            started = time.perf_counter()
            try:
                line[stage] = {"line": run() or "ok"}
            except Exception as error:  # the table says what any of them says
                line[stage] = {"line": _one_line(error), "error": type(error).__name__}
            line[stage]["seconds"] = round(time.perf_counter() - started, 1)
            print(json.dumps(line), flush=True)


def _smallest_size(name: str) -> tuple[int, int, list[int]]:
    """Return the smallest of `SIDES` that the network takes, its channels, and its map's size.

    Raises:
        ConfigError: it takes none of them, nor its own; the message is of its own size.
    """
    import timm
    import torch

    from gsp_deploy import BaselineConfig, ModelConfig, PreprocessingSpec
    from gsp_deploy.errors import ConfigError
    from gsp_deploy.model import create_backbone, run_backbone

    spec = PreprocessingSpec(224, 224)
    network = create_backbone(ModelConfig(name, BaselineConfig(1), spec)).eval()
    own = timm.models.get_pretrained_cfg(name).input_size[1]
    sides = [side for side in SIDES if side < own] + [own]
    for side in sides:
        try:
            with torch.inference_mode():
                found = run_backbone(name, network, torch.zeros(2, 3, side, side))
        except ConfigError:
            if side == own:
                raise
            continue
        if found.shape[2] * found.shape[3] >= FEWEST_LOCATIONS or side == own:
            return side, found.shape[1], list(found.shape[2:])
    raise AssertionError(sides)


def _stages(
    name: str, line: dict[str, Any], folder: Path
) -> Iterator[tuple[str, Callable[[], str | None]]]:
    from gsp_deploy.checkpoint import load_checkpoint
    from gsp_deploy.export import ExportOptions, assembly, default_calibration, export_onnx
    from gsp_deploy.export.backbone import export_backbone
    from gsp_deploy.export.conversion import convert_precision
    from gsp_deploy.export.quantisation import QuantisationImages

    checkpoint = folder / "run" / "last.safetensors"
    # The same graph serves float32 and int8: PyTorch's exporter takes most of the time.
    traced = functools.cache(lambda *options: export_backbone(model(), *options))
    assembly.export_backbone = lambda _, *options: traced(*options).clone()
    model = functools.cache(lambda: load_checkpoint(checkpoint))

    def images() -> Any:
        return default_calibration(model().config, IMAGES)

    def float32() -> str:
        export_onnx(model(), folder / "fp32.onnx", None, images())
        return _check(checkpoint, folder / "fp32.onnx", images().inputs)

    def half() -> str:
        made = convert_precision(folder / "fp32.onnx", folder / "fp16.onnx", "fp16", images())
        line["kept"] = sorted(made.manifest.kept_in_float32)
        return _check(checkpoint, folder / "fp16.onnx", images().inputs)

    def int8() -> str:
        options = ExportOptions(precision="int8", max_drop=100.0)
        judged = QuantisationImages(images(), images())
        made = export_onnx(model(), folder / "int8.onnx", options, images(), None, judged)
        assert made.manifest.quantisation is not None
        line["quantised"] = made.manifest.quantisation.layers
        return _check(checkpoint, folder / "int8.onnx", images().inputs)

    yield "train", lambda: _train(name, line["side"], folder)
    yield "fp32", float32
    yield "fp16", half
    yield "int8", int8
    yield "plan fp32", lambda: _build(folder / "fp32.onnx")
    yield "plan fp16", lambda: _build(folder / "fp16.onnx")


def _train(name: str, side: int, folder: Path) -> None:
    """Train one step as `gsp-deploy train` does; the run's last checkpoint goes into `folder`."""
    from gsp_deploy.training import parse_recipe, train

    recipe = {
        "model": {"backbone": name},
        "head": {"kind": "gsp", "embedding_dim": 64},
        "gsp": {"num_prototypes": 16},
        "preprocessing": {"height": side, "width": side},
        "data": {
            "spec": "glyphs:train_classes=6,test_classes=4,images_per_class=4",
            "validation_fraction": 0.4,
        },
        "loss": {"kind": "proxy-anchor"},
        "sampler": {"batch_size": 4, "images_per_class": 2},
        "optimiser": {"lr": 1e-5},
        "run": {"steps": 1, "evaluate_every": 1, "tensorboard": False, "threads": 1,
                "device": "cpu"},
    }  # fmt: skip
    train(parse_recipe(recipe), folder / "run")


def _check(checkpoint: Path, model: Path, images: Any) -> str:
    """Compare as `gsp-deploy check` does; return the largest error, or the gates that fail.

    The neighbours of an untrained network are noise, so their limits are open.
    """
    from gsp_deploy import open_session
    from gsp_deploy.parity import compare_sessions, open_rounding, tolerances_for

    with open_session(checkpoint) as reference, open_rounding(model) as candidate:
        precision = candidate.info.precision
        limits = tolerances_for(precision, {"max_flips": 1.0, "min_overlap": 0.0})
        report = compare_sessions(reference, candidate, images, tolerances=limits)
    failed = "; ".join(str(gate) for gate in report.gates if not gate.passed)
    if failed:
        return failed
    error = next(gate for gate in report.gates if gate.name == "max_embedding_error")
    return f"ok, {error.value:.0e}"


def _build(model: Path) -> str:
    from gsp_deploy.engine.build import build_engine
    from gsp_deploy.engine.options import BuildOptions

    if not model.exists():
        return "not exported"
    built = build_engine(model, model.with_suffix(".engine"), BuildOptions(targets=(TARGET,)))
    return f"ok, {built.manifest.layers} layers"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _lines(results: Path) -> dict[str, dict[str, Any]]:
    if not results.exists():
        return {}
    found = map(json.loads, results.read_text(encoding="utf-8").splitlines())
    return {line["family"]: line for line in found}


def _write_table(results: Path, page: Path, most: float) -> None:
    """Replace the table between the two marks of the page."""
    lines, picks = _lines(results), _smallest_of_all(results.with_suffix(".picks.json"))
    rows, notes = [], []
    for family, (name, count) in sorted(picks.items()):
        size = f"{count / 1e6:.1f} M"
        line = lines.get(family)
        if line is None:
            reason = f"over {most:g} M parameters" if count > most * 1e6 else "not run yet"
            rows.append(f"| {family} | `{name}` | {size} | | {reason} " + "| " * len(STAGES) + "|")
            continue
        cells = [_cell(line, stage, notes) for stage in STAGES]
        where = f"{line['side']}, {'x'.join(map(str, line['map']))}" if "side" in line else ""
        if "refused" in line:
            notes.append(f"`{name}`: {line['refused']}")
            cells[0] = f"refused [{len(notes)}]"
        rows.append(f"| {family} | `{name}` | {size} | {where} | {' | '.join(cells)} |")
    head = ("family", "network", "parameters", "side, map", *STAGES)
    table = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]
    listed = [f"{number}. {_escaped(note)}" for number, note in enumerate(notes, 1)]
    text = page.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    body = "\n".join([START, "", *table, "", *listed, "", END])
    page.write_text(before + body + after, encoding="utf-8")


def _cell(line: dict[str, Any], stage: str, notes: list[str]) -> str:
    found = line.get(stage)
    if found is None:
        return line.get("ended", "")
    text: str = found["line"]
    if text.startswith("ok"):
        return text
    if text == "not exported":
        return "–"
    note = f"`{line['name']}`, {stage}: {text}"
    if note not in notes:
        notes.append(note)
    return f"no [{notes.index(note) + 1}]"


def _escaped(note: str) -> str:
    return note.replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")


if __name__ == "__main__":
    main()
