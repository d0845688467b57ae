"""Build a network by the factory that the user names, as `my_package.models:build`.

Only a command line can name one: no file makes this tool import anything.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import nn

from gsp_deploy.errors import GspDeployError, UsageError, reason_of


def build_network(factory: str) -> nn.Module:
    """Import the module and call the function, with the current folder on the path.

    A name that is a network already is taken as it is.

    Raises:
        UsageError: there is no such module or function, or it returns no `nn.Module`.
        GspDeployError: the import or the function fails.
    """
    module_name, _, name = factory.partition(":")
    found: Any = _imported(module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(
                f"{factory}: {module_name} has no attribute {name!r}; expected a function or class "
                f"that returns a torch.nn.Module{_defined_in(module_name)}"
            )
        found = getattr(found, part)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UsageError(f"{factory}: expected a function, got {_kind(found)}")
        found = _called(found, factory)
    if not isinstance(found, nn.Module):
        raise UsageError(f"{factory}: expected it to return a torch.nn.Module, got {_kind(found)}")
    return found.eval()


def _imported(name: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        is_there = find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):  # a parent is missing, or is no package
        is_there = False
    except BaseException as error:  # a parent package may raise anything
        raise _failed(f"importing {name}", error) from error
    if not is_there:
        raise UsageError(
            f"there is no module {name!r} in {here} or among the installed packages; name the "
            "factory as package.module:function"
        )
    try:
        return import_module(name)
    except BaseException as error:
        raise _failed(f"importing {name}", error) from error


def _defined_in(module: str) -> str:
    """Name the functions and classes of a module, after a comma; those that it imports are not."""
    own = [
        name
        for name, value in vars(sys.modules[module]).items()
        if callable(value) and name[0] != "_" and getattr(value, "__module__", None) == module
    ]
    return f", as one of {', '.join(own[:8])}" if own else ""


def _called(function: Any, factory: str) -> Any:
    try:
        return function()
    except BaseException as error:
        raise _failed(f"{factory}()", error) from error


def _failed(what: str, error: BaseException) -> BaseException:
    """Return one line for any error of the user's code; an interrupt stays one."""
    if isinstance(error, (KeyboardInterrupt, GspDeployError)):
        return error
    return GspDeployError(f"{what} failed: {type(error).__name__}: {reason_of(error)}")


def _kind(value: object) -> str:
    return type(value).__name__
