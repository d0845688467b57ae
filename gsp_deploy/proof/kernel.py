"""Run the kernel's lab: every plan against its reference in double, then times beside the floor."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsp_deploy.errors import GateError, GspDeployError, MissingCapabilityError
from gsp_deploy.proof.document import Finding

if TYPE_CHECKING:
    from gsp_deploy.proof.run import ProofSettings

_NO_DEVICE, _MOST_SECONDS = 4, 900
# The page has these rows; the JSON document has all of them.
_SHOWN = {"solver": "certified", "input": "float16", "layout": "last"}
_COLUMNS = ("batch", "locations", "plan", "l2", "p50_us", "p90_us", "average_p50_us", "floor_us")


def kernel_lab(settings: ProofSettings, folder: Path) -> Finding:
    """Run the lab program and return its report.

    Raises:
        MissingCapabilityError: there is no program, or it finds no device.
        GateError: a version of the kernel is wrong.
        GspDeployError: it did not run to its end.
    """
    if settings.lab is None:
        raise MissingCapabilityError("no lab program: build it in plugins/gsp_pooling/lab")
    report = folder / "lab.json"
    command = [str(settings.lab.resolve()), "--json", str(report)]
    command += ["--quick"] if settings.is_rehearsal else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MOST_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GspDeployError(f"{settings.lab} does not run here: {error}") from error
    if done.returncode == _NO_DEVICE:
        raise MissingCapabilityError(done.stderr.strip())
    if not report.is_file():
        raise GspDeployError(f"{settings.lab} wrote no report: {done.stderr.strip()}")
    return _finding(json.loads(report.read_text(encoding="utf-8")), done.returncode)


def _finding(found: Mapping[str, Any], code: int) -> Finding:
    rows, timings = found["correctness"], found["timings"]
    wrong = [row for row in rows if not (row["right"] and row["same_twice"])]
    if wrong or code != 0 or not rows:
        first = wrong[0] if wrong else {}
        raise GateError(f"{len(wrong)} of {len(rows)} cases are wrong; the first: {first}")
    worst = max(row["pooled_error"] for row in rows)
    detail = f"{len(rows)} cases are right, the worst by {worst:.1e}; {len(timings)} timings"
    return Finding("", "passed", detail, table=_shown(timings), data=found)


def _shown(timings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = (row for row in timings if all(row[key] == value for key, value in _SHOWN.items()))
    return [{column: row[column] for column in _COLUMNS} for row in rows]
