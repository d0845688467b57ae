"""Recognise the name of a factory, without importing anything."""

from __future__ import annotations

import os
import re

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_factory(text: str) -> bool:
    """Whether a text names a factory, `module:function`, and not a file.

    >>> is_factory("my_package.models:build"), is_factory("model.safetensors")
    (True, False)
    """
    return _FACTORY.fullmatch(text) is not None and not os.path.exists(text)
