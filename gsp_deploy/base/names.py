"""Check names that a file contains, and tell a name on the Hugging Face hub from a path."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

# Weights on the Hugging Face hub: this, then `owner/name`.
HUB = "hf-hub:"
# Linux's PATH_MAX, the longest path that it opens.
_LONGEST = 4096


def is_inside(name: object) -> bool:
    """Whether a name is a relative path that stays below its folder, on any system.

    >>> is_inside("golden/images.npy"), is_inside("../secret"), is_inside("C:\\\\x")
    (True, False, False)
    """
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST:
        return False
    if any(character in name for character in "\\:\0"):
        return False
    parts = name.split("/")
    is_absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    return not is_absolute and not {"", ".", ".."}.intersection(parts)
