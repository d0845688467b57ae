"""Record the names that a version of TensorRT's Python bindings has, as `names-<version>.json`.

    python record_names.py FOLDER_OF_UNPACKED_WHEEL [OUTPUT]

A wheel of the lean runtime is recorded as `names-lean-<version>.json`.

The bindings import without TensorRT's libraries as long as the nine C functions that they link
to are somewhere: this script compiles empty ones with gcc into a temporary folder and starts
itself again with them on the library path. Only names come out, nothing of the wheel itself.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

STUBBED = (
    "createInferBuilder_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getPluginRegistry",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
)
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin", "nvinfer_lean")
MODULES = {"tensorrt_bindings": "names", "tensorrt_lean_bindings": "names-lean"}
IN_CHILD = "RECORDING_NAMES"


def names_of(module: ModuleType) -> dict[str, list[str]]:
    """Return the public names of every class, enumerations among them, and of the module."""
    own = (name for name, value in vars(module).items() if not isinstance(value, ModuleType))
    found = {"": sorted(name for name in own if not name.startswith("_"))}
    for name in found[""]:
        member = getattr(module, name)
        if isinstance(member, type) and member.__module__.startswith(module.__name__):
            found[name] = _public(member)
            for inner, nested in vars(member).items():
                if isinstance(nested, type) and not inner.startswith("_"):
                    found[f"{name}.{inner}"] = _public(nested)
    return found


def _public(kind: type) -> list[str]:
    return sorted(name for name in dir(kind) if not name.startswith("_"))


def _plugin(module: ModuleType) -> dict[str, list[str]]:
    """Return the names of `tensorrt.plugin`, which exists from 10.9 on, under that name."""
    sys.modules["tensorrt"] = module  # as its frontend's package is called
    try:
        plugin = importlib.import_module(f"{module.__name__}.plugin")
    except ModuleNotFoundError:
        return {}
    return {"plugin": sorted(plugin.__all__)}


def compile_stubs(folder: Path) -> None:
    """Write shared objects of TensorRT's names, whose functions do nothing."""
    source = folder / "stubs.c"
    source.write_text("".join(f"void* {name}(void) {{ return 0; }}\n" for name in STUBBED))
    for library in LIBRARIES:
        for major in (10, 11):
            target = folder / f"lib{library}.so.{major}"
            command = [
                "gcc",
                "-shared",
                "-fPIC",
                f"-Wl,-soname,{target.name}",
                source,
                "-o",
                target,
            ]
            subprocess.run(command, check=True)


def main() -> None:
    wheel = Path(sys.argv[1]).resolve()
    if IN_CHILD not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            compile_stubs(Path(folder))
            environment = {**os.environ, "LD_LIBRARY_PATH": folder, IN_CHILD: "1"}
            subprocess.run([sys.executable, *sys.argv], env=environment, check=True)
        return
    sys.path.insert(0, str(wheel))
    name = next(name for name in MODULES if (wheel / name).is_dir())
    module = importlib.import_module(name)
    default = Path(__file__).with_name(f"{MODULES[name]}-{module.__version__}.json")
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else default
    document = {"version": module.__version__, "names": {**names_of(module), **_plugin(module)}}
    output.write_text(json.dumps(document, indent=None, separators=(",", ":")) + "\n")
    print(f"{output}: {len(document['names'])} classes of {module.__version__}")


if __name__ == "__main__":
    main()
