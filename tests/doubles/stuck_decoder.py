"""A decoder's process that some bodies keep for ever, and some end.

`STUCK...` is a heavy request that never ends, `SLOW...` one that never ends as a light request and
is decoded as a heavy one, `HELD...` one that never ends, `CRASH...` ends the process.

It is here because a new process has to import it by a name of its own.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from gsp_deploy.serving import decoding

honest_answer = decoding.answer


def decode_or_get_stuck(pipe: Any, spec: Any, limits: Any) -> None:
    """Be a decoder until the pipe ends."""
    decoding.answer = answer_or_get_stuck
    decoding.decode_in_process(pipe, spec, limits)


def answer_or_get_stuck(job: Any, spec: Any, limits: Any) -> Any:
    """Answer a job, unless its body says otherwise."""
    if job.body.startswith(b"STUCK") and not job.heavy:
        return decoding.TooHeavy(1)
    never_ends = job.body.startswith((b"STUCK", b"HELD"))
    if never_ends or (job.body.startswith(b"SLOW") and not job.heavy):
        threading.Event().wait()
    if job.body.startswith(b"CRASH"):
        os.kill(os.getpid(), signal.SIGKILL)
    honest = decoding.Job(job.body.removeprefix(b"SLOW"), job.content_type, job.heavy)
    return honest_answer(honest, spec, limits)
