"""Read a setting that the user wrote as `name=value`."""

from __future__ import annotations

import sys
from typing import Any

from gsp_deploy.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def setting_of(text: str) -> tuple[str, Any]:
    """Return the name and the value of `name=value`; the value is as in TOML, or a bare word.

    Raises:
        ConfigError: there is no name or no equals sign.

    >>> setting_of("img_size=[224, 160]"), setting_of("kind=gap")
    (('img_size', [224, 160]), ('kind', 'gap'))
    """
    name, equals, written = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"expected name=value, got {text!r}")
    try:
        return name.strip(), tomllib.loads(f"value = {written.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), written.strip()
