"""Parse a model with TensorRT-RTX and print as JSON what the parser made of it.

    mapping_probe.py model.onnx                       no creator: build a plan
    mapping_probe.py model.onnx name namespace 1      a creator of that name, namespace and version

TensorRT-RTX hosts no plugins: a creator that returns one ends the process, so this one notes what
it is asked for and returns none, whereupon the parser gives up. It has a process of its own still.
"""

from __future__ import annotations

import json
import sys

import tensorrt_rtx_bindings as trt

from gsp_deploy.artifact.pooling_node import PoolingAttributes

KINDS = {
    str: trt.PluginFieldType.CHAR,
    int: trt.PluginFieldType.INT32,
    float: trt.PluginFieldType.FLOAT32,
}


class Creator(trt.IPluginCreatorV3One):
    """Gives the parser the same fields as the real creator, and records the values it receives."""

    def __init__(self, name: str, namespace: str, version: str) -> None:
        trt.IPluginCreatorV3One.__init__(self)
        self.name, self.plugin_namespace, self.plugin_version = name, namespace, version
        example = PoolingAttributes("gap", "newton", 1, 0.3, 5.0)
        self.field_names = trt.PluginFieldCollection(
            [trt.PluginField(k, b"", KINDS[type(v)]) for k, v in vars(example).items()]
        )
        self.calls: list[dict[str, object]] = []

    def create_plugin(self, name, fields, phase) -> None:
        found = {}
        for field in fields:
            is_text = field.type == trt.PluginFieldType.CHAR
            found[field.name] = (
                field.data.tobytes().decode().rstrip("\0") if is_text else field.data.item()
            )
        self.calls.append({"name": name, "phase": str(phase).split(".")[1], "fields": found})


def plan_bytes(builder: trt.Builder, network: trt.INetworkDefinition) -> int:
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    profile = builder.create_optimization_profile()
    source = network.get_input(0)
    shape = [4 if size < 0 else size for size in source.shape]
    profile.set_shape(source.name, [1, *shape[1:]], shape, shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return 0 if plan is None else plan.nbytes


def main(path: str, *creator_names: str) -> None:
    """Parse, build where no creator is there to stand in the way, and print."""
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    creator = Creator(*creator_names) if creator_names else None
    if creator is not None:
        trt.get_plugin_registry().register_creator(creator, creator.plugin_namespace)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    is_parsed = parser.parse_from_file(path)
    found = {
        "parsed": is_parsed,
        "errors": [parser.get_error(i).desc() for i in range(parser.num_errors)],
        "layers": network.num_layers,
        "plan": plan_bytes(builder, network) if is_parsed and creator is None else None,
        "calls": [] if creator is None else creator.calls,
    }
    print("probe:" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
