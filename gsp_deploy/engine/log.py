"""Collect TensorRT's messages for this package's errors instead of printing them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gsp_deploy.engine.api import TensorRT

NO_REASON = "it gave no reason"

_WORDS = re.compile(r"Error Code \d+: [\w ]+\((.+)\)")
_PLACE = re.compile(r"\[\w+\.(?:cpp|h|cu):\d+: \w+\] |\s+In [\w:]+ at \S+?(?=\)|$)")


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


def reason_for(messages: Sequence[str]) -> str:
    """Return TensorRT's last message without the places in its source code."""
    if not messages:
        return NO_REASON
    inner = _WORDS.search(messages[-1])
    return _PLACE.sub("", inner[1] if inner else messages[-1]).strip().rstrip(".")
