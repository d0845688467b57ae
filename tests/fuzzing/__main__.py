"""Fuzz one parser with atheris. From `tests/`, with libFuzzer's own options:

python -m fuzzing recipe -max_total_time=600 FOUND fuzzing/corpus/recipe   # new inputs into FOUND
python -m fuzzing recipe -merge=1 fuzzing/corpus/recipe FOUND              # keep what is new

A failure ends it with a traceback and the path of the input.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["gsp_deploy"]):
    from fuzzing.targets import attempt

DEFAULTS = ("-max_len=4096", "-rss_limit_mb=0", "-timeout=20")  # the limit counts the parent's peak


def main(name: str, *options: str) -> None:
    """Fuzz the target with this name."""
    again = f"{sys.executable} -m fuzzing {name}"  # a merge runs this in a shell of its own
    atheris.Setup([again, *DEFAULTS, *options], lambda data: attempt(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
