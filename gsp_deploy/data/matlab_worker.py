"""Print a .mat file's tables as JSON, within limits; `matlab.py` runs this file as a process.

It imports nothing from this package, and a crash ends only this process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_MEMORY = 2 << 30
_LONGEST_TEXT = 1000
_MOST_ENTRIES = 1_000_000


def main(path: str, fields: list[str]) -> int:
    """Print `annotations` and `class_names` of a file; return the exit code."""
    try:
        import numpy as np
        import scipy.io
    except ModuleNotFoundError:
        return 3
    _limit_memory()
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


def _limit_memory() -> None:
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
