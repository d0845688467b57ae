"""Collect TensorRT's messages for this package's errors instead of printing them."""

from __future__ import annotations

from typing import Any

from gsp_deploy.engine.api import TensorRT

NO_REASON = "it gave no reason"


def make_log(tensorrt: TensorRT) -> Any:
    """Return an `ILogger` that prints nothing and collects its `errors` and `warnings`."""
    severity = tensorrt.module.ILogger.Severity
    grave = (severity.ERROR, severity.INTERNAL_ERROR)

    class Log(tensorrt.module.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity_: Any, message: str) -> None:
            if severity_ in grave:
                self.errors.append(" ".join(message.split()))
            elif severity_ == severity.WARNING:
                self.warnings.append(" ".join(message.split()))

    return Log()


def last_error(log: Any) -> str:
    """Return the last error in a log, in TensorRT's words."""
    return str(log.errors[-1]) if log.errors else NO_REASON
