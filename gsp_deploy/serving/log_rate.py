"""Write at most one log line per second for each kind of message."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NAMES = ("asyncio", "uvicorn.error", "gsp_deploy.serving")
_MOST_KINDS = 1000


class OncePerSecond(logging.Filter):
    """Let a message through once per second, with the number of messages held back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held: defaultdict[str, int] = defaultdict(int)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record."""
        kind, now = f"{record.name} {record.levelno} {record.msg!s}"[:200], self._clock()
        if now - self._last.get(kind, -1.0e9) < 1.0:
            self._held[kind] += 1
            return False
        if len(self._last) >= _MOST_KINDS:
            self._last.clear()
            self._held.clear()
        self._last[kind] = now
        if held := self._held.pop(kind, 0):
            record.msg = f"{record.msg} ({held} more like this)"
        return True


@contextmanager
def one_line_a_second() -> Iterator[None]:
    """Limit the server's loggers to one line per second and kind while the block runs."""
    limit = OncePerSecond()
    loggers = [logging.getLogger(name) for name in NAMES]
    for logger in loggers:
        logger.addFilter(limit)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(limit)
