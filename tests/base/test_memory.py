"""A process with limited memory gets MemoryError, not the machine's last byte."""

from __future__ import annotations

import subprocess
import sys

import pytest

ALLOCATE = """
import numpy as np
from gsp_deploy.base.memory import limit_memory
limit_memory(256 << 20)
np.ones({mib} << 17)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
@pytest.mark.parametrize(("mib", "fits"), [(64, True), (512, False)])
def test_only_what_the_limit_allows(mib: int, fits: bool) -> None:
    code = ALLOCATE.format(mib=mib)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is fits
    assert ("MemoryError" in done.stderr) is not fits
