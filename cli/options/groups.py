"""Group options: a dataclass becomes one parameter of a command and one panel of its help.

    size_option = panel("Size")

    @dataclass(frozen=True)
    class Size:
        height: Annotated[int, size_option(help="In pixels.")] = 224
        width: Annotated[int, size_option(help="In pixels.")] = 224

    def crop(image: Path, *, size: Size, force: Force = False) -> None: ...

`crop` has the options --height, --width and --force, and receives the dataclass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial, wraps
from inspect import Parameter, signature
from typing import Any, get_args, get_type_hints

import typer
from typer.models import ParameterInfo

Command = Callable[..., None]


def panel(title: str) -> Callable[..., typer.models.OptionInfo]:
    """Return `typer.Option` for options that the help lists in a panel of their own."""
    return partial(typer.Option, rich_help_panel=title)


def unfolded(command: Command) -> Command:
    """Return a command that Typer can read: each group is replaced by its fields."""
    parameters: list[Parameter] = []
    groups: dict[str, type] = {}
    for parameter in signature(command, eval_str=True).parameters.values():
        group = parameter.annotation
        if isinstance(group, type) and is_dataclass(group):
            groups[parameter.name] = group
            parameters += _options_of(group)
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
    for parameter in parameters:
        _leave_paths_to_us(parameter)

    @wraps(command)
    def folding(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    read_by_typer = signature(command).replace(parameters=parameters)
    folding.__signature__ = read_by_typer  # type: ignore[attr-defined]
    folding.__annotations__ = {p.name: p.annotation for p in parameters}
    return folding


def given_options(context: typer.Context) -> dict[str, str]:
    """Return what the command line sets: the parameter's name, and the option, as `--name`."""
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None
        and getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
    }


def _options_of(group: type) -> list[Parameter]:
    types = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
        )
        for field in fields(group)
    ]


def _leave_paths_to_us(parameter: Parameter) -> None:
    """Turn off Typer's own check of a path: `inputs` checks all paths with the same messages."""
    for info in get_args(parameter.annotation)[1:]:
        if isinstance(info, ParameterInfo):
            info.readable = False
