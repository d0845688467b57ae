"""Servers of the fake model, stopped when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from gsp_deploy.runtime import EmbeddingSession

from .servers import RunningServer, TellingSession, running_server


@pytest.fixture
def start() -> Iterator[Callable[..., RunningServer]]:
    """Return a function that starts a server with the given settings."""
    with ExitStack() as stack:

        def start(session: EmbeddingSession | None = None, **settings: Any) -> RunningServer:
            chosen = session or TellingSession()
            return stack.enter_context(running_server(chosen, **settings))

        yield start
