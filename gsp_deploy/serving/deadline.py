"""Work on a request until it is answered, its time is over, or its client is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from fastapi import Request, Response

from gsp_deploy.errors import RequestError
from gsp_deploy.serving.limits import CLIENT_GONE

Body = AbstractAsyncContextManager[bytes]
Work = Callable[[bytes], Awaitable[Response]]


async def answer_in_time(request: Request, body: Body, work: Work, seconds: float) -> Response:
    """Read the body, do the work, and return its response.

    Args:
        request: the request, watched in case its client disconnects.
        body: context manager that returns the request's bytes.
        work: makes the response; it is cancelled on any of the errors below.
        seconds: time for all of it.

    Raises:
        RequestError: 408 when the body does not arrive in time, 504 when the answer is not made
            in time, 499 when the client goes away.
    """
    end = time.monotonic() + seconds
    async with AsyncExitStack() as stack:
        try:
            content = await asyncio.wait_for(stack.enter_async_context(body), seconds)
        except asyncio.TimeoutError as error:
            raise RequestError(408, f"the request did not arrive within {seconds:g} s") from error
        return await _work_while_wanted(request, work(content), end, seconds)


async def _work_while_wanted(
    request: Request, work: Awaitable[Response], end: float, seconds: float
) -> Response:
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_client_leaves(request))
    try:
        done, _ = await asyncio.wait(
            (working, leaving),
            timeout=max(end - time.monotonic(), 0),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if working in done:
            return working.result()
        if leaving in done:
            raise RequestError(CLIENT_GONE, "the client went away")
        raise RequestError(504, f"the server was too busy to answer within {seconds:g} s", 1)
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
