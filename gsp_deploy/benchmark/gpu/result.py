"""What was found of one engine at one batch size on a GPU, and reading it back from JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from gsp_deploy.base.schema import from_fields
from gsp_deploy.benchmark.gpu.layers import LayerProfile
from gsp_deploy.benchmark.gpu.stages import StageTimes
from gsp_deploy.benchmark.gpu.sustained import Sustained

T = TypeVar("T")


@dataclass(frozen=True)
class ComputeCost:
    """GPU compute of a model by that of its twin with average pooling, in the same rounds.

    Attributes:
        ratio: median over rounds; with its quartiles.
        extra_ms: median over rounds of the difference, in milliseconds.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    extra_ms: float


@dataclass(frozen=True)
class GpuResult:
    """One engine at one batch size.

    Attributes:
        with_graphs: stages with CUDA graphs; None where there are none.
        without_graphs: stages without, in the same rounds.
        no_graphs: why there are none, if so.
        cost: against the twin; None without one.
        layers: where the compute goes; None where the ONNX file is not beside the engine.
        sustained: a run without pause; None if not asked for.
    """

    with_graphs: StageTimes | None
    without_graphs: StageTimes
    no_graphs: str | None
    cost: ComputeCost | None = None
    layers: LayerProfile | None = None
    sustained: Sustained | None = None

    @property
    def stages(self) -> StageTimes:
        """The stages as the settings ask for them: with graphs where there are any."""
        return self.without_graphs if self.with_graphs is None else self.with_graphs


def read_nested(cls: type[T], data: Mapping[str, Any]) -> T:
    """Build a dataclass whose fields are dataclasses, or tuples of them, from plain data.

    Raises:
        ConfigError, TypeError, AttributeError: the data is not such a thing.
    """
    hints = get_type_hints(cls)
    fields = {name: _read(hints[name], value) for name, value in data.items() if name in hints}
    unknown = {name: value for name, value in data.items() if name not in hints}
    return from_fields(cls, {**fields, **unknown})


def _read(hint: Any, value: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        hint = next(part for part in get_args(hint) if part is not type(None))
    if dataclasses.is_dataclass(hint):
        return read_nested(hint, value)  # type: ignore[arg-type]
    if get_origin(hint) is tuple and isinstance(value, (list, tuple)):
        return tuple(_read(get_args(hint)[0], item) for item in value)
    return value
