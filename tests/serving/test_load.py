"""The load test in small: every reply checked, bad requests mixed in, an overload, a SIGTERM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving.py"
REQUESTS = 160


def test_nothing_is_lost_or_mixed_up(tiny_export: str) -> None:
    sizes = ("--requests", str(REQUESTS), "--clients", "8", "--window-ms", "2", "--max-batch", "8")
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--model", tiny_export, *sizes, "--bad", "0.2", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr or ran.stdout
    load, overload, stopping = json.loads(ran.stdout)["results"]
    for result in (load, overload, stopping):
        assert result["requests"] == REQUESTS
        assert result["wrong"] == 0
        assert result["outcomes"]["refused rightly"] > REQUESTS / 20
    assert load["outcomes"]["right"] > REQUESTS / 2
    assert overload["outcomes"]["right"] > REQUESTS / 2
    assert overload["retries"] > 0
    assert stopping["outcomes"]["right"] > REQUESTS / 4
    assert stopping["outcomes"]["not ready, not asked"] > REQUESTS / 4
