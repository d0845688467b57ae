"""Make the folder that a machine with a GPU needs to prove what cannot be shown without one.

    python benchmarks/gpu_kit.py build/gpu-kit [--arches "75 80 86 87 89 90"]

It contains the wheel of gsp-deploy, the kernel's lab program, the tests, a small model, and run.sh.
That machine needs Python and the packages that use its GPU, and no network:

    cd gpu-kit && ./run.sh              # proof.json and proof.md

Without nvcc, or with `--without-lab`, the kit has no lab program, and the proof says so.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / "plugins" / "gsp_pooling" / "lab"
MODEL = ROOT / "models" / "glyphs-lite0.safetensors"
ARCHES = "75 80 86 87 89 90 100 110 120"
MOST_BYTES = 60_000_000
RUN = """\
#!/usr/bin/env bash
# Proves on this machine's GPU what gsp-deploy claims: proof.json and proof.md, in some 20 minutes.
# Extra arguments go to `gsp-deploy doctor`: --rehearse runs it on the CPU.
#
# PYTHON names a Python (3.10 or later) that has numpy, pillow, rich and typer, and the packages to
# try: torch, timm, safetensors, onnx, onnxscript, onnxruntime-gpu, cuda-python, nvidia-ml-py,
# tensorrt, pytest, hypothesis.
# What is missing is listed as not run.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
if [[ ! -d site ]]; then
  "$python" -m pip install --quiet --no-index --no-deps --target site gsp_deploy-*.whl
fi
lab=()
[[ -x lab ]] && lab=(--lab lab)
PYTHONPATH=site exec "$python" -c 'from gsp_deploy_cli.main import main; main()' doctor \\
  --selftest --full --force "${lab[@]}" --tests tests \\
  --model model/glyphs-lite0.onnx --output proof.json "$@"
"""


def make_kit(folder: Path, arches: str, *, with_lab: bool) -> int:
    """Write the kit into a new folder, and return its size in bytes."""
    if folder.exists():
        sys.exit(f"gpu_kit: {folder} exists; remove it first")
    folder.mkdir(parents=True)
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--wheel-dir", folder, ROOT)  # fmt: skip
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)  # pytest reads its settings there
    _write_model(folder / "model" / "glyphs-lite0.onnx")
    if with_lab:
        _build_lab(folder / "lab", arches)
    script = folder / "run.sh"
    script.write_text(RUN)
    script.chmod(0o755)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _write_model(path: Path) -> None:
    from gsp_deploy import load_checkpoint
    from gsp_deploy.export import ExportOptions, export_onnx

    path.parent.mkdir()
    export_onnx(load_checkpoint(MODEL), path, ExportOptions())


def _build_lab(target: Path, arches: str) -> None:
    if shutil.which("nvcc") is None or shutil.which("make") is None:
        print("gpu_kit: no nvcc or no make here: the kit has no lab program", file=sys.stderr)
        return
    print(f"gpu_kit: compiling the lab for sm_{', sm_'.join(arches.split())}: some minutes each")
    _run("make", "-j2", "-C", LAB, f"ARCHES={arches}")
    shutil.copy(LAB / "build" / "lab", target)


def _run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"gpu_kit: {command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def main() -> None:
    """Make the kit, and hold it to its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arches", default=ARCHES, help="for which GPUs the lab is compiled")
    parser.add_argument("--without-lab", action="store_true")
    asked = parser.parse_args()
    size = make_kit(asked.folder, asked.arches, with_lab=not asked.without_lab)
    if size > MOST_BYTES:
        sys.exit(f"gpu_kit: {size:,} bytes, more than the {MOST_BYTES:,} that it may have")
    print(f"{asked.folder}: {size:,} bytes; copy it to the machine and run ./run.sh there")


if __name__ == "__main__":
    main()
