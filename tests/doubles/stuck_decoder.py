"""A decoder's process that some bodies keep for ever, and some end: `STUCK...`, `CRASH...`.

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
    if job.body.startswith(b"STUCK"):
        threading.Event().wait()
    if job.body.startswith(b"CRASH"):
        os.kill(os.getpid(), signal.SIGKILL)
    return honest_answer(job, spec, limits)
