"""The TensorRT plugin held to its contract by a host that plays TensorRT, wherever headers are.

The kernel is replaced by a launcher that writes down what it gets: neither nvcc nor a GPU is
needed, only TensorRT's public headers (GSP_TENSORRT_INCLUDE, or a system path) and CUDA's.
"""

from __future__ import annotations

import re
import subprocess

import pytest
from adapter_build import ADAPTER, build_adapter

from gsp_deploy.artifact.pooling_node import (
    DOMAIN,
    OP_TYPE,
    PLUGIN_NAMESPACE,
    PLUGIN_VERSION,
    PoolingAttributes,
)


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> subprocess.CompletedProcess[str]:
    """Build the adapter and the host, and return what the host says of the adapter."""
    library, program = build_adapter(tmp_path_factory.mktemp("adapter"))
    command = [str(program), str(library), "--enqueue"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
