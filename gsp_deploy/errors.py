"""The library's errors, and the exit code of each on the command line."""

from __future__ import annotations

import reprlib
from pathlib import Path

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80


class GspDeployError(Exception):
    """Base of every error that the library raises on purpose.

    The message says in one line what was expected, what it got, and what to do next.
    `exit_code` is the process's exit code if the error reaches the command line.
    """

    exit_code = 1


class UsageError(GspDeployError):
    """An option or an argument cannot be used as given."""

    exit_code = 2


class ConfigError(UsageError, ValueError):
    """A configuration value is outside its domain; nothing half-valid is constructed."""


class CheckpointError(GspDeployError):
    """A checkpoint is missing, damaged or hostile, or lacks what its kind must contain."""


class ModelFileError(GspDeployError):
    """An exported model or its manifest is missing or damaged, or gsp-deploy did not write it."""


class DataError(GspDeployError):
    """A data set or an image is missing or damaged, or does not follow its layout."""


class SourceError(GspDeployError):
    """A source of many images cannot be read: no access, no connection, damaged, or changed."""


class ImageSizeError(DataError):
    """An image's header declares more pixels than the limit; nothing was decoded."""


class OutputError(GspDeployError):
    """The system refuses to write an output, such as on a full disk or a read-only folder.

    `path` is the output, `reason` the system's own message.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"cannot write {path}: {reason}; nothing was replaced, "
            "free some space or choose another place"
        )
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[OutputError], tuple[Path, str]]:
        """Return how to make the error again in another process."""
        return OutputError, (self.path, self.reason)


class GateError(GspDeployError):
    """A check finished, and its result is outside the tolerance."""

    exit_code = 3


class MissingCapabilityError(GspDeployError):
    """This machine lacks a package, a device or a driver that the command needs."""

    exit_code = 4


class DeviceError(GspDeployError):
    """A CUDA or TensorRT call failed on the device; the message contains CUDA's error name."""


class VectorServerError(GspDeployError):
    """A vector server cannot be reached, or refuses a request, or its place is not a URI."""


class RequestError(GspDeployError):
    """A server rejects a request; `status` is the HTTP status code.

    `retry_after` is in seconds, or None if retrying later does not help.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


def reason_of(error: BaseException) -> str:
    """Return the first line of another library's error, or its type if it has no message.

    >>> reason_of(ValueError("bad header\\nat byte 8")), reason_of(ValueError())
    ('bad header', 'ValueError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def flattened(error: BaseException, most: int = 300) -> str:
    """Return another library's error message in one line, at most `most` characters of it.

    >>> flattened(ValueError("size mismatch\\n  for head"))
    'size mismatch for head'
    """
    return " ".join(str(error).split())[:most]


def brief(value: object) -> str:
    """Return `repr(value)`, shortened so that a hostile file cannot flood an error message."""
    return _BRIEF.repr(value)
