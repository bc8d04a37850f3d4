"""YAML as people write it, read so that nothing in it is lost or multiplied.

A key that is there twice is refused (YAML's last one would win without a word). In files that others send,
anchors and aliases are refused, too: a few lines of them stand for gigabytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lerenet.errors import DataError
from lerenet.files import shown

MAX_BYTES = 1_000_000


class _SafeStrict(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that a mapping holds twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping of ``node``.

        Raises:
            yaml.YAMLError: a key is there twice; it names both lines.
        """
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name, line = self.construct_object(key, deep=True), key.start_mark.line + 1
            if repr(name) in seen:
                raise yaml.YAMLError(f"key {name!r} is there twice, in lines {seen[repr(name)]} and {line}")
            seen[repr(name)] = line
        return super().construct_mapping(node, deep)


class _SafeForeign(_SafeStrict):
    """As `_SafeStrict`, without aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node that is no alias."""
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"line {line}: an alias (*name); write the value out")
        return super().compose_node(parent, index)


def parse_yaml(text: str, *, aliases: bool = False) -> Any:
    """The value of ``text``.

    Raises:
        yaml.YAMLError: no YAML, a key twice, or an alias where ``aliases`` is False.
    """
    return yaml.load(text, _SafeStrict if aliases else _SafeForeign)


def read_yaml(path: Path) -> Any:
    """The value of a YAML file that somebody else may have written.

    Raises:
        DataError: too large, not UTF-8, no YAML, a key twice, or an alias; the message names file and line.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{shown(path)}: {size / 1e6:.1f} MB of YAML", "give a table of at most 1 MB")
        return parse_yaml(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DataError(f"{shown(path)}: not valid YAML: {error}", "mend the line it names") from error
    except (IsADirectoryError, PermissionError) as error:
        raise DataError(f"{shown(path)}: can't be read: {error.strerror}", "give a YAML file") from error
