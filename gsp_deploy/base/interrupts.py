"""Ctrl-C, which libraries do not always pass on as what it is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def remembered_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt also where Ctrl-C came and something else was made of it.

    CPython's compiler, which PyTorch's exporter calls, may end with a SystemError; others wrap
    what they meet, or go on as if nothing had come; then it is raised at the end. Where SIGINT is
    handled or ignored already, as under nohup, that stays.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    came = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    except (Exception, SystemExit) as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
