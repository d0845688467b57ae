"""This package's own tests that need a GPU: device laws, streams, graphs, DLPack, engines."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gsp_deploy.base.environment import can_import
from gsp_deploy.errors import GateError, GspDeployError, MissingCapabilityError
from gsp_deploy.proof.document import Finding

if TYPE_CHECKING:
    from gsp_deploy.proof.run import ProofSettings

_MOST_SECONDS = 900
# Of a package that is not here; one of this package's own modules would be a mistake.
_MISSING = re.compile(r"ModuleNotFoundError: (No module named '(?!gsp_deploy)[\w.]+')")
# A rehearsal runs the laws of devices on their doubles.
_ON_GPU = ("device", "gpu", "engine/test_gpu.py", "runtime/test_torch_devices.py")
_REHEARSED = ("device/test_laws.py",)


def device_tests(settings: ProofSettings, folder: Path) -> Finding:
    """Run the tests by pytest; each that was skipped is listed with its reason.

    Each folder has a process of its own: one that needs a package which is not here is not run.

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
    places = [path for name in names if (path := settings.tests.resolve() / name).exists()]
    return _finding([row for place in places for row in _rows(place, mark, settings.tests, folder)])


def _rows(place: Path, mark: str, tests: Path, folder: Path) -> list[dict[str, str]]:
    """Run the tests of a file or folder, and return a row for each."""
    report = folder / f"{place.stem}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", mark, f"--junitxml={report}",
               "--continue-on-collection-errors", str(place)]  # fmt: skip
    root = tests.resolve().parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_MOST_SECONDS)
    if report.is_file():
        return [_row(case) for case in ET.parse(report).getroot().iter("testcase")]
    said = done.stdout + done.stderr
    if missing := _MISSING.search(said):
        return [{"test": place.stem, "state": "not run", "reason": missing[1]}]
    raise GspDeployError(f"pytest did not run: {said.strip()[-300:]}")


def _finding(rows: Sequence[dict[str, str]]) -> Finding:
    bad = [row for row in rows if row["state"] == "failed"]
    if bad or not rows:
        first = f"; the first: {bad[0]['test']}: {bad[0]['reason']}" if bad else ""
        raise GateError(f"{len(bad)} of {len(rows)} tests failed{first}")
    skipped = [row for row in rows if row["state"] == "not run"]
    detail = f"{len(rows) - len(skipped)} tests passed, {len(skipped)} were not run"
    return Finding("", "passed", detail, table=skipped, data={"tests": rows})


def _row(case: ET.Element) -> dict[str, str]:
    name = f"{case.get('classname')}.{case.get('name')}".lstrip(".")
    for tag, state in (("failure", "failed"), ("error", "failed"), ("skipped", "not run")):
        if (found := case.find(tag)) is not None:
            if missing := _MISSING.search(found.text or ""):
                return {"test": name, "state": "not run", "reason": missing[1]}
            return {"test": name, "state": state, "reason": found.get("message") or ""}
    return {"test": name, "state": "passed", "reason": ""}
