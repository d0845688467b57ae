"""Report an unknown choice of an option as one line, like every other error."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand

from gsp_deploy.errors import UsageError

_REFUSED = re.compile(r"(?P<given>'.*') is not one of (?P<known>.+?)\.?$")


class Command(TyperCommand):
    """A command that lists an option's choices if it gets another word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            UsageError: an option got a word that is not one of its choices.
        """
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            refused = _REFUSED.search(error.message)
            if refused is None or error.param is None:
                raise
            known = refused["known"].replace("'", "")
            raise UsageError(
                f"{error.param.opts[0]} must be one of {known}, got {refused['given']}"
            ) from error
