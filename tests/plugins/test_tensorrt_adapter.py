"""The TensorRT plugin held to its contract by a host that plays TensorRT, wherever headers are.

The kernel is replaced by a launcher that writes down what it gets: neither nvcc nor a GPU is
needed, only TensorRT's public headers (GSP_TENSORRT_INCLUDE, or a system path) and CUDA's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from native_headers import NO_TENSORRT_HEADERS, cuda_headers, tensorrt_headers

from gsp_deploy.artifact.pooling_node import (
    DOMAIN,
    OP_TYPE,
    PLUGIN_NAMESPACE,
    PLUGIN_VERSION,
    PoolingAttributes,
)

HERE = Path(__file__).parent
POOLING = HERE.parents[1] / "plugins" / "gsp_pooling"
ADAPTER = POOLING / "tensorrt"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> subprocess.CompletedProcess[str]:
    """Build the adapter and the host, and return what the host says of the adapter."""
    tensorrt, cuda = tensorrt_headers(), cuda_headers()
    if tensorrt is None:
        pytest.skip(NO_TENSORRT_HEADERS)
    if cuda is None or shutil.which("g++") is None:
        pytest.skip("no g++, or no CUDA headers: set CUDA_HOME")
    folder = tmp_path_factory.mktemp("adapter")
    common = [
        "g++",
        "-std=c++17",
        "-O1",
        *WARNINGS,
        "-isystem",
        str(tensorrt),
        "-isystem",
        str(cuda),
    ]
    library = folder / "libgsp_plugin.so"
    sources = [*sorted(ADAPTER.glob("*.cpp")), POOLING / "gsp_pooling_params.cpp"]
    sources.append(HERE / "adapter" / "recording_launcher.cpp")
    subprocess.run(
        [*common, "-shared", "-fPIC", "-fvisibility=hidden", "-DGSP_DEPLOY_VERSION=\"test\"",
         f"-I{POOLING}", *map(str, (s for s in sources if s.name != "contract_host.cpp")),
         f"-Wl,--version-script={ADAPTER / 'symbols.map'}", "-Wl,--no-undefined",
         "-o", str(library)],
        check=True,
    )  # fmt: skip
    program = folder / "contract_host"
    subprocess.run(
        [*common, str(ADAPTER / "contract_host.cpp"), "-o", str(program), "-ldl"], check=True
    )
    return subprocess.run(
        [str(program), str(library), "--enqueue"], capture_output=True, text=True, check=False
    )


def test_the_adapter_keeps_its_contract(host) -> None:
    assert host.returncode == 0, host.stdout[-600:] + host.stderr
    assert host.stdout.endswith("the contract holds\n")
    assert not re.search("FAILED", host.stdout)
    assert len(re.findall("^ok refused: GeneralizedSumPooling: node: .+$", host.stdout, re.M)) == 13


def test_what_is_launched_is_what_the_descriptions_say(host) -> None:
    (line,) = re.findall("^launched (.*)$", host.stdout, re.M)
    found = dict(pair.split("=") for pair in line.split())
    assert found == {
        "batch": "2", "locations": "35", "embedding_dim": "64", "num_prototypes": "8",
        "channels": "32", "iterations": "3", "grid_points": "63", "pooling": "1", "solver": "2",
        "input_type": "1", "output_type": "0", "layout": "1", "plan": "3",
        "embeddings": "0x10", "prototypes": "0x20", "features": "0x30", "pooled": "0x40",
        "weights": "(nil)", "attributes": "0x50", "residual": "0x70", "embedding_bound": "(nil)",
        "workspace": "0x60", "stream": "(nil)",
    }  # fmt: skip


def test_adapter_and_exporter_call_everything_alike() -> None:
    settings = (ADAPTER / "settings.cpp").read_text()
    table = settings[settings.index("attribute_names()") :]
    kinds = dict(re.findall(r'{"(\w+)", nullptr, PluginFieldType::k(\w+), 1}', table))
    expected = {str: "CHAR", int: "INT32", float: "FLOAT32"}
    example = PoolingAttributes("gap", "newton", 1, 0.3, 5.0)
    assert kinds == {name: expected[type(value)] for name, value in vars(example).items()}
    assert re.findall(r'kPoolingWords = {"(.*)"}', settings) == ['gap", "gmp", "gem']
    assert re.findall(r'kSolverWords = {"(.*)"}', settings) == [
        'fixed-point", "newton", "certified'
    ]
    assert re.findall(r'kTypeWords = {"(.*)"}', settings) == ['fp32", "fp16", "bf16']
    header = (ADAPTER / "plugin.h").read_text()
    names = dict(re.findall(r'kPlugin(\w+) = "(.*)"', header))
    assert names == {"Name": OP_TYPE, "Version": PLUGIN_VERSION, "Namespace": PLUGIN_NAMESPACE}
    assert PLUGIN_NAMESPACE == DOMAIN
