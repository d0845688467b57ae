"""TensorRT-RTX's ONNX parser maps the pooling node to a plugin or its body; no GPU needed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest

from gsp_deploy.artifact.pooling_node import (
    OP_TYPE,
    PLUGIN_NAMESPACE,
    PLUGIN_VERSION,
    PoolingAttributes,
)
from gsp_deploy.export import rewrite_pooling

PROBE = Path(__file__).with_name("mapping_probe.py")
OURS = (OP_TYPE, PLUGIN_NAMESPACE, PLUGIN_VERSION)

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None, reason="needs tensorrt-rtx"
)


def probe(path: Path, *creator: str) -> dict:
    ran = subprocess.run(
        [sys.executable, str(PROBE), str(path), *creator],
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = (line for line in ran.stdout.splitlines() if "probe:" in line)
    return json.loads(line.partition("probe:")[2])


@pytest.fixture(scope="module")
def forms(tiny_export: str, tmp_path_factory) -> dict[str, Path]:
    """The same small network with its pooling in each form."""
    folder = tmp_path_factory.mktemp("forms")
    plugin = rewrite_pooling(tiny_export, folder / "plugin.onnx", "plugin")
    bare = rewrite_pooling(tiny_export, folder / "bare.onnx", "plugin-bare")
    return {"unrolled": Path(tiny_export), "plugin": plugin.path, "plugin-bare": bare.path}


@pytest.mark.parametrize("form", ["plugin", "plugin-bare"])
def test_the_parser_takes_the_node_to_our_creator(form, forms) -> None:
    found = probe(forms[form], *OURS)
    (call,) = found["calls"]
    expected = PoolingAttributes("gap", "newton", 3, 0.3, 5.0, normalize=1)
    assert call["name"] == "gsp/pooling"
    assert call["phase"] == "BUILD"
    assert call["fields"] == pytest.approx(asdict(expected))


@pytest.mark.parametrize("creator", [(OP_TYPE, PLUGIN_NAMESPACE, "2"), (OP_TYPE, "other", "1")])
def test_another_creator_is_not_taken_and_the_body_is(creator, forms) -> None:
    found = probe(forms["plugin"], *creator)
    assert found["parsed"]
    assert not found["calls"]


def test_without_a_plugin_the_body_builds_and_the_bare_node_does_not(forms) -> None:
    plain, plugin, bare = (probe(forms[form]) for form in ("unrolled", "plugin", "plugin-bare"))
    assert plugin["parsed"]
    assert plain["plan"] > 0
    assert plugin["plan"] == pytest.approx(plain["plan"], rel=0.05)
    assert abs(plugin["layers"] - plain["layers"]) <= 10  # constants stand in the body
    assert not bare["parsed"]
    assert "Plugin not found" in " ".join(bare["errors"])
