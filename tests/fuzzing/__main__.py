"""Fuzz one parser with atheris. From `tests/`, with libFuzzer's own options:

python -m fuzzing recipe -max_total_time=600 FOUND fuzzing/corpus/recipe   # new inputs into FOUND
python -m fuzzing recipe -merge=1 fuzzing/corpus/recipe FOUND              # keep what is new
python -m fuzzing all -max_total_time=60                                   # one after the other

A failure ends it with a traceback and the path of the input.
"""

from __future__ import annotations

import os
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["gsp_deploy"]):
    from fuzzing.targets import CORPUS, TARGETS, attempt

DEFAULTS = ("-max_len=4096", "-rss_limit_mb=0", "-timeout=20")  # the limit counts the parent's peak


def main(name: str, *options: str) -> None:
    """Fuzz the target with this name, or all of them, each from its corpus."""
    if name != "all":
        fuzz(name, *options)
    for target in TARGETS:
        with tempfile.TemporaryDirectory() as found:
            child = os.fork()  # instrumenting the imports takes longer than a short run
            if child == 0:
                fuzz(target, *options, found, str(CORPUS / target))
            if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
                sys.exit(f"{target}: ended with {status}")


def fuzz(name: str, *options: str) -> None:
    """Fuzz one target, and end the process."""
    again = f"{sys.executable} -m fuzzing {name}"  # a merge runs this in a shell of its own
    atheris.Setup([again, *DEFAULTS, *options], lambda data: attempt(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
