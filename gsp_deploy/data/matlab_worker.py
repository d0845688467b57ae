"""Print a .mat file's tables as JSON, within limits; `matlab.py` runs this file as a process.

A crash ends only this process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from gsp_deploy.base.memory import limit_memory
from gsp_deploy.base.worker import LACKS_PACKAGE

_MEMORY = 2 << 30
_LONGEST_TEXT = 1000
_MOST_ENTRIES = 1_000_000
_LONGEST_TABLES = 32 << 20  # characters of JSON; Cars196's tables have 1 million


def main(path: str, fields: list[str]) -> int:
    """Print `annotations` and `class_names` of a file; return the exit code."""
    try:
        import numpy as np
        import scipy.io
    except ModuleNotFoundError:
        return LACKS_PACKAGE
    limit_memory(_MEMORY)
    try:
        contents = scipy.io.loadmat(path, simplify_cells=True)
        tables: dict[str, Any] = {}
        if "annotations" in contents:
            entries = np.atleast_1d(contents["annotations"])[:_MOST_ENTRIES]
            tables["annotations"] = [
                {name: _plain(entry[name]) for name in fields if name in entry}
                for entry in entries
                if isinstance(entry, dict)
            ]
        if "class_names" in contents:
            names = np.atleast_1d(contents["class_names"])[:_MOST_ENTRIES]
            tables["class_names"] = [str(name)[:_LONGEST_TEXT] for name in names]
        text = json.dumps(tables)
        if len(text) > _LONGEST_TABLES:
            raise ValueError(f"expected tables of at most {_LONGEST_TABLES:,} characters")
    except Exception as error:  # a damaged file can raise any type in scipy
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        return 1
    print(text)
    return 0


def _plain(value: Any) -> int | str | None:
    """Return a whole number or a text, or None for any other value."""
    if isinstance(value, str):
        return value[:_LONGEST_TEXT]
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
