"""Options that choose the device and the runtime, for every command that opens a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.base.choices import CudaApi
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_file

if TYPE_CHECKING:
    from gsp_deploy.runtime import EmbeddingSession, SessionOptions

engine_option = panel("Engines")
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
    """The device options, and those of TensorRT engines."""

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

    def open(self, model: Path) -> EmbeddingSession:
        """Open a model as these options say; see `gsp_deploy.runtime.open_session`."""
        from gsp_deploy.runtime import open_with

        return open_with(model, self.for_model(model))

    def for_model(self, model: Path) -> SessionOptions:
        """Return the session's options; without --device the model's kind decides."""
        from gsp_deploy.runtime import SessionOptions, implied_device

        return SessionOptions(
            device=self.device or implied_device([model]),
            threads=self.threads,
            provider=self.provider,
            cuda_graphs=self.cuda_graphs,
            cuda_api=self.cuda_api,
            plugins=self.plugins,
            allow_host_code=self.allow_host_code,
        )
