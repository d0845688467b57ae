"""This package's own tests that need a GPU: device laws, streams, graphs, DLPack, engines."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

from gsp_deploy.base.environment import can_import
from gsp_deploy.errors import GateError, GspDeployError, MissingCapabilityError
from gsp_deploy.proof.document import Finding

if TYPE_CHECKING:
    from gsp_deploy.proof.run import ProofSettings

_MOST_SECONDS = 900
# A rehearsal runs the laws of devices on their doubles.
_ON_GPU, _REHEARSED = ("device", "gpu", "engine/test_gpu.py"), ("device/test_laws.py",)


def device_tests(settings: ProofSettings, folder: Path) -> Finding:
    """Run the tests by pytest; each that was skipped is listed with its reason.

    Raises:
        MissingCapabilityError: there are no tests, or no pytest.
        GateError: a test failed.
        GspDeployError: pytest did not run to its end.
    """
    if settings.tests is None:
        raise MissingCapabilityError("no folder of tests: run this from a checkout or a kit")
    if not can_import("pytest"):
        raise MissingCapabilityError("pytest is not installed: pip install pytest hypothesis")
    mark, names = ("not gpu", _REHEARSED) if settings.is_rehearsal else ("gpu", _ON_GPU)
    report = folder / "tests.xml"
    places = [str(path) for name in names if (path := settings.tests / name).exists()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", mark, f"--junitxml={report}", *places]
    root = settings.tests.resolve().parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_MOST_SECONDS)
    if not report.is_file():
        raise GspDeployError(f"pytest did not run: {(done.stdout + done.stderr).strip()[-300:]}")
    return _finding(report)


def _finding(report: Path) -> Finding:
    rows = [_row(case) for case in ET.parse(report).getroot().iter("testcase")]
    bad = [row for row in rows if row["state"] == "failed"]
    if bad or not rows:
        first = f"; the first: {bad[0]['test']}: {bad[0]['reason']}" if bad else ""
        raise GateError(f"{len(bad)} of {len(rows)} tests failed{first}")
    skipped = [row for row in rows if row["state"] == "not run"]
    detail = f"{len(rows) - len(skipped)} tests passed, {len(skipped)} were not run"
    return Finding("", "passed", detail, table=skipped, data={"tests": rows})


def _row(case: ET.Element) -> dict[str, str]:
    name = f"{case.get('classname')}.{case.get('name')}"
    for tag, state in (("failure", "failed"), ("error", "failed"), ("skipped", "not run")):
        if (found := case.find(tag)) is not None:
            return {"test": name, "state": state, "reason": found.get("message") or ""}
    return {"test": name, "state": "passed", "reason": ""}
