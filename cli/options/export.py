"""Options of `gsp-deploy export`: one class for each panel of its help."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

from gsp_deploy.config import PoolingMode, Solver
from gsp_deploy.precision import FloatPrecisionWord, PrecisionWord
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.int8 import Int8Options

if TYPE_CHECKING:
    from gsp_deploy.artifact.pooling_node import PoolingForm
    from gsp_deploy.export import ExportOptions

precision_option = panel("Precision")
graph_option = panel("Graph")
solver_option = panel("Solver")
pooling_option = panel("Pooling")

MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)


@dataclass(frozen=True)
class PrecisionOptions:
    """Element types of the graph."""

    precision: Annotated[
        PrecisionWord,
        precision_option(
            help="Precision of the backbone; the pooling's cost and solver stay in fp32."
        ),
    ] = "fp32"
    io_precision: Annotated[
        FloatPrecisionWord, precision_option(help="Element type of float inputs and outputs.")
    ] = "fp32"


@dataclass(frozen=True)
class GraphOptions:
    """Inputs, outputs and operator set of the graph."""

    also: Annotated[
        list[str] | None,
        graph_option("--also", help="Another output: attributes, weights or residual; repeatable."),
    ] = None
    opset: Annotated[
        int | None, graph_option(help="ONNX opset, 17 to 22. (default: 18; 22 for bf16)")
    ] = None
    include_preprocessing: Annotated[
        bool,
        graph_option(
            "--include-preprocessing",
            help="Take uint8 NHWC images and normalise them in the graph.",
        ),
    ] = False
    dynamic_size: Annotated[
        bool, graph_option("--dynamic-size", help="Accept images of any height and width.")
    ] = False
    static_batch: Annotated[
        bool, graph_option("--static-batch", help="Fix the batch size to 1.")
    ] = False
    external_data: Annotated[
        bool, graph_option("--external-data", help="Write the weights to a second file.")
    ] = False


@dataclass(frozen=True)
class SolverOptions:
    """How the transport is solved."""

    solver: Annotated[
        Solver,
        solver_option(
            help="certified: bounded error for every input; fixed-point: the paper's iteration."
        ),
    ] = "certified"
    iterations: Annotated[
        int | None,
        solver_option(
            help="Number of solver steps; the error then has no bound. (default: for certified and "
            "newton what the hardest inputs need, for fixed-point the checkpoint's own)"
        ),
    ] = None
    tolerance: Annotated[
        float,
        solver_option(help="Largest error of a mixing weight, relative to the weights' spread."),
    ] = 1e-4


@dataclass(frozen=True)
class PoolingOptions:
    """How the pooling is written."""

    pooling: Annotated[
        str,
        pooling_option(
            help="unrolled: standard operators; plugin: one node for the fused kernel, and ONNX "
            "Runtime runs it without the kernel. (gap, gmp, gem: --pooling-mode)"
        ),
    ] = "unrolled"
    bare: Annotated[
        bool,
        pooling_option(
            "--bare",
            help="With --pooling plugin: write the node alone, as TensorRT 10.3 needs it; "
            "the file then runs only with the plugin.",
        ),
    ] = False

    @property
    def form(self) -> PoolingForm:
        """The form that both options ask for together.

        Raises:
            UsageError: the form is unknown, or `--bare` comes without `--pooling plugin`.
        """
        from gsp_deploy.errors import UsageError

        if self.pooling not in ("unrolled", "plugin"):
            is_mode = self.pooling in MODES
            hint = f"; the authors' mode is --pooling-mode {self.pooling}" if is_mode else ""
            raise UsageError(f"--pooling must be unrolled or plugin, got {self.pooling!r}{hint}")
        if self.bare and self.pooling != "plugin":
            raise UsageError("--bare belongs to --pooling plugin; pass both, or neither")
        if self.pooling == "unrolled":
            return "unrolled"
        return "plugin-bare" if self.bare else "plugin"


def export_options(
    precision: PrecisionOptions,
    graph: GraphOptions,
    solver: SolverOptions,
    form: PoolingForm,
    int8: Int8Options,
) -> ExportOptions:
    """Return the options for `export_onnx`, checked.

    Raises:
        UsageError: a value is outside its domain.
    """
    from gsp_deploy.export import ExportOptions

    given: dict[str, Any] = {**asdict(precision), **asdict(solver)}
    return ExportOptions(
        **given,
        opset=graph.opset,
        dynamic_batch=not graph.static_batch,
        dynamic_size=graph.dynamic_size,
        include_preprocessing=graph.include_preprocessing,
        outputs=tuple(graph.also or ()),  # type: ignore[arg-type]
        external_data=graph.external_data,
        pooling_form=form,
        **int8.given,
    )
