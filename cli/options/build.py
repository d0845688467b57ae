"""Options of `gsp-deploy build`: one class for each panel of its help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gsp_deploy.base.choices import HardwareCompatibility, Pooling
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_file

if TYPE_CHECKING:
    from gsp_deploy.engine.options import BuildOptions

shape_option = panel("Shapes")
builder_option = panel("Builder")
plan_option = panel("What the plan can do")
plugin_option = panel("Plugin")


@dataclass(frozen=True)
class ShapeOptions:
    """Ranges of the sizes that the ONNX file leaves open."""

    batch: Annotated[
        list[str] | None,
        shape_option(
            help="Range of the batch size, min:opt:max; repeat it for another profile. (default: "
            "1:8:64)"
        ),
    ] = None
    size: Annotated[
        list[str] | None,
        shape_option(
            help="Range of height and width, min:opt:max, each N or HxW. (default: half to twice "
            "the trained size)"
        ),
    ] = None
    dynamic_size: Annotated[
        bool, shape_option("--dynamic-size", help="Accept images of any size; for a checkpoint.")
    ] = False


@dataclass(frozen=True)
class BuilderOptions:
    """How much time and memory TensorRT may spend on building."""

    workspace: Annotated[
        str | None, builder_option(help="Device memory a layer may use, as in 512M.")
    ] = None
    optimization_level: Annotated[
        int | None, builder_option(help="0 builds fast, 5 runs fast. (default: 3)")
    ] = None
    timing_cache: Annotated[
        Path | None,
        builder_option(help="File of kernel timings; it is created, or read and extended."),
    ] = None
    low_memory: Annotated[
        bool, builder_option("--low-memory", help="Use a small workspace and a short search.")
    ] = False


@dataclass(frozen=True)
class PlanOptions:
    """What the plan can do."""

    hardware_compatibility: Annotated[
        HardwareCompatibility, plan_option(help="Which other GPUs can run the plan.")
    ] = "none"
    version_compatible: Annotated[
        bool,
        plan_option(
            "--version-compatible", help="The plan also runs on later versions of TensorRT."
        ),
    ] = False
    lean: Annotated[
        bool,
        plan_option(
            "--lean",
            help="Leave the lean runtime out of a version-compatible plan: install it beside.",
        ),
    ] = False
    refit: Annotated[bool, plan_option("--refit", help="You can replace the weights later.")] = (
        False
    )
    strip_weights: Annotated[
        bool, plan_option("--strip-weights", help="Leave the weights out; --into puts them in.")
    ] = False
    weight_streaming: Annotated[
        bool,
        plan_option("--weight-streaming", help="Weights may stay in host memory until needed."),
    ] = False
    tf32: Annotated[
        bool, plan_option("--tf32", help="float32 matrix products may round to TF32.")
    ] = False
    into: Annotated[
        Path | None,
        plan_option(
            help="Put this file's weights into a refittable or stripped engine; nothing else is "
            "built.",
            callback=existing_file,
        ),
    ] = None


@dataclass(frozen=True)
class PluginOptions:
    """Whether the pooling is one node, and which plugin computes it."""

    pooling: Annotated[
        Pooling | None,
        plugin_option(
            help="How to write the pooling. (default: plugin with --plugin, else unrolled)"
        ),
    ] = None
    plugin: Annotated[
        Path | None,
        plugin_option(
            help="Library of the pooling plugin.",
            callback=existing_file,
        ),
    ] = None

    @property
    def form(self) -> Pooling:
        """The form of the pooling in the network.

        Raises:
            UsageError: the two options contradict each other.
        """
        from gsp_deploy.errors import UsageError

        if self.pooling == "plugin" and self.plugin is None:
            raise UsageError("--pooling plugin needs the plugin's library: --plugin PATH")
        if self.pooling == "unrolled" and self.plugin is not None:
            raise UsageError("--plugin belongs to --pooling plugin; leave one of the two out")
        return self.pooling or ("unrolled" if self.plugin is None else "plugin")


def build_options(
    precision: str | None,
    targets: Sequence[str],
    shapes: ShapeOptions,
    builder: BuilderOptions,
    plan: PlanOptions,
    pooling: PluginOptions,
) -> BuildOptions:
    """Return the options for `build_engine`, parsed and checked.

    Raises:
        UsageError: a value is outside its domain.
    """
    from gsp_deploy.engine.options import BuildOptions, parse_bytes
    from gsp_deploy.engine.profiles import parse_batch, parse_size
    from gsp_deploy.engine.targets import parse_targets

    return BuildOptions(
        batches=tuple(parse_batch(text) for text in shapes.batch or ()),
        sizes=tuple(parse_size(text) for text in shapes.size or ()),
        precision=precision,
        targets=parse_targets(targets),
        workspace=None if builder.workspace is None else parse_bytes(builder.workspace),
        optimization_level=builder.optimization_level,
        timing_cache=builder.timing_cache,
        hardware_compatibility=plan.hardware_compatibility,
        version_compatible=plan.version_compatible,
        lean=plan.lean,
        refit=plan.refit,
        strip_weights=plan.strip_weights,
        weight_streaming=plan.weight_streaming,
        tf32=plan.tf32,
        low_memory=builder.low_memory,
        plugin=pooling.plugin,
    )
