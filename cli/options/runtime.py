"""Options that choose the device and the runtime, for every command that opens a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.base.choices import CudaApi, RuntimeWord
from gsp_deploy.precision import FloatPrecisionWord
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_file

if TYPE_CHECKING:
    from gsp_deploy.runtime import EmbeddingSession, SessionOptions

engine_option = panel("Engines")
openvino_option = panel("OpenVINO")
RuntimeOption = Annotated[
    RuntimeWord | None,
    typer.Option("--runtime", help="What runs an ONNX file. (default: onnxruntime)"),
]
PrecisionOption = Annotated[
    FloatPrecisionWord | None,
    openvino_option(
        "--precision",
        help="What it computes floats in. (default: the file's precision if this processor has "
        "it, else fp32)",
    ),
]
ModelCacheOption = Annotated[
    Path | None,
    openvino_option("--model-cache", help="Folder for compiled models. (default: none is kept)"),
]
onnxruntime_option = panel("ONNX Runtime")
CudaApiOption = Annotated[
    CudaApi, engine_option("--cuda-api", help="Python library that calls CUDA.")
]


@dataclass(frozen=True)
class DeviceOptions:
    """The device, the provider and the threads."""

    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N. (default: cuda for engines, else cpu)")
    ] = None
    provider: Annotated[
        str | None, typer.Option(help="ONNX Runtime's execution provider. (default: by --device)")
    ] = None
    threads: Annotated[
        int | None, typer.Option(help="Threads of one inference. (default: the runtime's choice)")
    ] = None


@dataclass(frozen=True)
class RuntimeOptions(DeviceOptions):
    """The device options, and those of OpenVINO and of TensorRT engines."""

    runtime: RuntimeOption = None
    precision: PrecisionOption = None
    requests: Annotated[
        int | None,
        openvino_option(
            "--requests",
            min=0,
            help="Batches in flight at once; 0: as many as give most images per second. "
            "(default: 0 where a command embeds many images, else 1)",
        ),
    ] = None
    model_cache: ModelCacheOption = None
    ep_library: Annotated[
        list[Path] | None,
        onnxruntime_option(
            "--ep-library",
            help="Library with an execution provider, to load first; repeatable. Those in packages "
            "onnxruntime-ep-... are found without it.",
            callback=existing_file,
        ),
    ] = None
    session_option: Annotated[
        list[str] | None,
        onnxruntime_option(
            "--session-option",
            metavar="NAME=VALUE",
            help="Entry of the session configuration, such as ep.context_enable=1; repeatable.",
        ),
    ] = None
    cuda_api: CudaApiOption = "auto"
    cuda_graphs: Annotated[
        bool,
        engine_option(
            "--cuda-graphs/--no-cuda-graphs", help="Capture runs as CUDA graphs, one per shape."
        ),
    ] = True
    plugin: Annotated[
        list[Path] | None,
        engine_option(
            "--plugin",
            help="Library of a plugin that the engine needs; repeatable.",
            callback=existing_file,
        ),
    ] = None
    allow_host_code: Annotated[
        bool,
        engine_option(
            "--allow-host-code", help="Load version-compatible engines, which carry host code."
        ),
    ] = False

    @property
    def plugins(self) -> tuple[Path, ...]:
        """The plugin libraries."""
        return tuple(self.plugin or ())

    @property
    def ep_libraries(self) -> tuple[Path, ...]:
        """The libraries with execution providers."""
        return tuple(self.ep_library or ())

    @property
    def session_config(self) -> dict[str, str]:
        """The entries of ONNX Runtime's session configuration, by name."""
        return _pairs("--session-option", self.session_option or [])

    def open(self, model: Path, *, many: bool = False) -> EmbeddingSession:
        """Open a model as these options say; see `gsp_deploy.runtime.open_session`.

        With `many` images to embed, it runs for throughput if --requests is left out.
        """
        from gsp_deploy.runtime import open_with

        return open_with(model, self.for_model(model, many=many))

    def for_other(
        self, device: str | None, runtime: RuntimeWord | None, provider: str | None = None
    ) -> RuntimeOptions:
        """Return options for a second model: those that say how one model runs are its own."""
        return replace(
            self,
            device=device,
            provider=provider,
            runtime=runtime,
            precision=None,
            requests=None,
            model_cache=None,
        )

    def requests_for(self, *, many: bool = False) -> int:
        """Return the batches in flight, with the default filled in."""
        if self.requests is not None:
            return self.requests
        return 0 if many and self.runtime == "openvino" else 1

    def for_model(self, model: Path, *, many: bool = False) -> SessionOptions:
        """Return the session's options; without --device the model's kind decides."""
        from gsp_deploy.runtime import SessionOptions, implied_device

        return SessionOptions(
            device=self.device or implied_device([model]),
            threads=self.threads,
            provider=self.provider,
            ep_libraries=self.ep_libraries,
            session_config=self.session_config,
            cuda_graphs=self.cuda_graphs,
            cuda_api=self.cuda_api,
            plugins=self.plugins,
            allow_host_code=self.allow_host_code,
            runtime=self.runtime,
            precision=self.precision,
            requests=self.requests_for(many=many),
            model_cache=self.model_cache,
        )


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    """Split each NAME=VALUE.

    Raises:
        UsageError: one has no name or no =, or two have the same name.
    """
    from gsp_deploy.errors import UsageError

    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"{option}: expected NAME=VALUE, got {text!r}")
        if name in found:
            raise UsageError(f"{option}: {name} is given twice")
        found[name] = value
    return found
