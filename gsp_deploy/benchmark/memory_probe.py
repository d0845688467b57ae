"""Open one model, run it, and print its peak memory; `measure_memory` starts this process."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from gsp_deploy.artifact.kind import require_kind
from gsp_deploy.benchmark.inputs import example_inputs
from gsp_deploy.benchmark.settings import BenchmarkSettings
from gsp_deploy.runtime import open_with

_STATUS = Path("/proc/self/status")
_MEBIBYTE = 1 << 20
RUNS = 2


def main() -> None:
    """Read `{"model", "plugins", "settings"}` from stdin, print `{"idle_mb", "peaks_mb"}`."""
    asked = json.load(sys.stdin)
    settings = BenchmarkSettings(**asked["settings"])
    model = Path(asked["model"])
    require_kind(model).prepare(settings.runtime)
    idle = peak_memory_mb()
    peaks = {}
    plugins = [Path(plugin) for plugin in asked["plugins"]]
    with open_with(model, settings.session_options(plugins)) as session:
        for batch in sorted(settings.batches):
            inputs = example_inputs(session, batch, settings)
            for _ in range(RUNS):
                session.infer(inputs, ("embedding",))
            peaks[batch] = peak_memory_mb()
    print(json.dumps({"idle_mb": idle, "peaks_mb": peaks}))


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MiB.

    On Linux, `ru_maxrss` starts at the parent's memory at the fork, so this reads the kernel's
    record of this address space if there is one.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / _MEBIBYTE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MEBIBYTE if sys.platform == "darwin" else peak * 1024 / _MEBIBYTE


if __name__ == "__main__":
    main()
