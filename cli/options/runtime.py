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
    """The device options, and those of TensorRT engines."""

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
            ep_libraries=self.ep_libraries,
            session_config=self.session_config,
            cuda_graphs=self.cuda_graphs,
            cuda_api=self.cuda_api,
            plugins=self.plugins,
            allow_host_code=self.allow_host_code,
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
