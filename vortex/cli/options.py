"""Flags made from the one definition of the options, and options read back from parsed flags."""

from __future__ import annotations

import argparse
from typing import Any, TypeVar

from vortex.options import Option, OptionGroup, default_of, options_of

Group = TypeVar("Group", bound=OptionGroup)


def add_options(
    parser: argparse.ArgumentParser, group: type[OptionGroup], *, skip: tuple[str, ...] = ()
) -> None:
    """Add a flag for each option of a group: ``size_px`` becomes ``--size-px``, and ``--size`` is enough.

    ``skip`` names options that the command takes in another way.
    """
    for name, option in options_of(group).items():
        if name not in skip:
            _add_flag(parser, name, option, default_of(group, name))


def _add_flag(parser: argparse.ArgumentParser, name: str, option: Option, default: Any) -> None:
    flag = "--" + name.replace("_", "-")
    shown = "" if default is None else f" (default {'on' if default is True else default})"
    text = (option.help + ("" if default is False else shown)).replace("%", "%%")
    if option.kind == "flag":
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        parser.add_argument(flag, default=None, metavar=option.metavar, help=text)


def parsed_options(args: argparse.Namespace, group: type[Group]) -> Group:
    """Return the options of a group from parsed flags.

    Raises:
        InputError: a value that its option does not accept.
    """
    return group.parse(**{name: getattr(args, name, None) for name in options_of(group)})
