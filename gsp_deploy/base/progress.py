"""The callbacks through which long work reports its progress, and silence for that of others."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout

# Called with a description of the next step.
Announce = Callable[[str], None]
# Called with the number of items completed since the last call.
Advance = Callable[[int], None]
# Called with a description of the next step, the number of items completed, and their total.
Progress = Callable[[str, int, int], None]

# Libraries under PyTorch's exporter and ONNX Runtime's quantiser that log their progress.
_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries print, log and warn of while they export off the user's terminal."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
