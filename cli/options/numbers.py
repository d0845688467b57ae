"""Lists of numbers as a user writes them: 1,8 or 224x224."""

from __future__ import annotations

from gsp_deploy.errors import UsageError


def whole_numbers(
    option: str, text: str, separator: str = ",", kind: str = "whole numbers"
) -> tuple[int, ...]:
    """Return the numbers of an option's text; `kind` describes them in the error.

    Raises:
        UsageError: a part is not a whole number.
    """
    try:
        return tuple(int(part) for part in text.lower().split(separator))
    except ValueError as error:
        example = f"1{separator}8"
        raise UsageError(f"{option} takes {kind}, as in {example}, got {text!r}") from error
