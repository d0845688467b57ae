"""What can go wrong, and the exit code each kind of failure has on the command line."""

from __future__ import annotations

import reprlib
from pathlib import Path

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80


class GspDeployError(Exception):
    """Base of every error that the library raises on purpose.

    The message says what was expected, what came, and what to do next, in one line.
    `exit_code` is what the command line ends with when the error reaches it.
    """

    exit_code = 1


class UsageError(GspDeployError):
    """An option or an argument cannot be used as given."""

    exit_code = 2


class ConfigError(UsageError, ValueError):
    """A configuration value is outside its domain; nothing half-valid is constructed."""


class CheckpointError(GspDeployError):
    """A checkpoint is missing, damaged, hostile, or does not hold what its kind promises."""


class ModelFileError(GspDeployError):
    """An exported model or its manifest is missing, damaged, or not one of ours."""


class DataError(GspDeployError):
    """A data set or an image cannot be read as its layout promises."""


class ImageSizeError(DataError):
    """An image has more pixels than are decoded; its header says so, nothing was decoded."""


class OutputError(GspDeployError):
    """The system refuses to write an output: the disk is full, or the place is not ours.

    `path` is the output, `reason` the system's word.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"cannot write {path}: {reason}; nothing was replaced, "
            "free some space or choose another place"
        )
        self.path = path
        self.reason = reason


class GateError(GspDeployError):
    """A check ran to its end and its result is outside the tolerance."""

    exit_code = 3


class MissingCapabilityError(GspDeployError):
    """This machine lacks a package, a device or a driver that the command needs."""

    exit_code = 4


class DeviceError(GspDeployError):
    """A CUDA or TensorRT call failed on the device; the message has CUDA's name of the error."""


class RequestError(GspDeployError):
    """A server does not answer a request as asked; `status` is HTTP's code for why.

    `retry_after` is in seconds, where coming back later helps.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


def reason_of(error: BaseException) -> str:
    """Return a foreign error's message in one line: its first, or its type where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def flattened(error: BaseException, most: int = 300) -> str:
    """Return a foreign error's whole message in one line, its first `most` characters."""
    return " ".join(str(error).split())[:most]


def brief(value: object) -> str:
    """Return `repr(value)`, cut where a hostile file would flood the message with it."""
    return _BRIEF.repr(value)
