"""A command that refuses an unknown word as everything else is refused: in one line."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand

from gsp_deploy.errors import UsageError

_REFUSED = re.compile(r"(?P<given>'.*') is not one of (?P<known>.+?)\.?$")


class Command(TyperCommand):
    """A command whose options with choices name them when they get something else."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            UsageError: an option got a word that is none of its choices.
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
