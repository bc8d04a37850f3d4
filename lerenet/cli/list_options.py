"""Options that take several values on the command line, as a shell glob gives them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from typer.core import TyperCommand


class ListCommand(TyperCommand):
    """A command whose repeatable options take several values: ``--seeds 0 1 2``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat each such option before each of its values, then parse as usual."""
        several = [name for param in self.params if getattr(param, "multiple", False) for name in param.opts]
        return super().parse_args(ctx, expand(args, several))


def expand(args: Sequence[str], several: Collection[str]) -> list[str]:
    """``--query a b c`` as ``--query a --query b --query c``, for the options ``several``."""
    expanded: list[str] = []
    flag = ""
    for position, word in enumerate(args):
        if word == "--":
            return expanded + list(args[position:])
        if word.startswith("-") and word != "-":
            name = word.partition("=")[0]
            flag = name if name in several else ""
            expanded += [] if flag == word else [word]
        elif flag:
            expanded += [flag, word]
        else:
            expanded.append(word)
    return expanded
