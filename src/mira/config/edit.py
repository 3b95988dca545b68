"""Changing single settings in the text of mira.yaml, so that comments and layout stay."""

from collections.abc import Mapping
from typing import Any

import yaml

from mira.errors import ConfigError

__all__ = ["with_settings"]

Changes = Mapping[str, Mapping[str, Any]]


def with_settings(text: str, changes: Changes, where: str) -> str:
    """Return the text with some settings changed or added.

    Args:
        text: The text of a settings file that loads.
        changes: Section -> field -> its new value.
        where: What messages call the file.

    Raises:
        ConfigError: The text is written in a way that cannot be changed safely (anchors and aliases, for instance);
            lists the settings to add by hand.
    """
    value = yaml.safe_load(text) or {}
    wanted = value | {section: (value.get(section) or {}) | dict(fields) for section, fields in changes.items()}
    changed = text
    try:
        for section, fields in changes.items():
            for field, new in fields.items():
                if (value.get(section) or {}).get(field) != new:
                    changed = _set(changed, section, field, new)
        same = yaml.safe_load(changed) == wanted
    except (yaml.YAMLError, ValueError):
        same = False
    if not same:
        raise ConfigError(
            f"{where}: its layout does not allow to add settings safely", f"Add these by hand:\n{_block(changes, 4)}"
        )
    return changed


def _set(text: str, section: str, field: str, value: Any) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None or (found := _pair(root, section)) is None:
        if isinstance(root, yaml.MappingNode) and root.flow_style:
            return _into_braces(text, root, {section: {field: value}})
        return f"{text.rstrip()}\n{_block({section: {field: value}})}\n".lstrip("\n")
    key, held = found
    if not isinstance(held, yaml.MappingNode):  # `section:` with nothing below it
        return _replace(text, held, {field: value}, column=2)
    if old := _pair(held, field):
        return _replace(text, old[1], value, column=held.start_mark.column + 2, flow=bool(held.flow_style))
    if held.flow_style:
        return _into_braces(text, held, {field: value})
    at = text.index("\n", key.end_mark.index) + 1  # the first line of the section: comments stay beside their keys
    return f"{text[:at]}{_block({field: value}, held.start_mark.column)}\n{text[at:]}"


def _pair(node: yaml.Node, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((key, value) for key, value in pairs if key.value == name), None)


def _into_braces(text: str, node: yaml.Node, value: Mapping[str, Any]) -> str:
    at = node.start_mark.index + 1
    return f"{text[:at]}{_flow(value)[1:-1]}{', ' if node.value else ''}{text[at:]}"


def _replace(text: str, node: yaml.Node, value: Any, *, column: int, flow: bool = False) -> str:
    start, end = node.start_mark.index, _end(node)
    if flow or not isinstance(value, dict):
        return f"{text[:start]}{' ' if start == end else ''}{_flow(value)}{text[end:]}"
    return f"{text[:start].rstrip()}\n{_block(value, column)}{text[end:]}"


def _end(node: yaml.Node) -> int:
    """Return where a node's text ends; a block's own mark lies behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _flow(value: Any) -> str:
    text = str(yaml.safe_dump(value, default_flow_style=True, width=2**20, sort_keys=False, allow_unicode=True))
    return text.removesuffix("\n...\n").rstrip("\n")


def _block(value: Mapping[str, Any], column: int = 0) -> str:
    """Write mappings line by line, what is inside them in brackets."""
    lines = []
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            lines += [f"{' ' * column}{_flow(name)}:", _block(inner, column + 2)]
        else:
            lines.append(" " * column + _flow({name: inner})[1:-1])
    return "\n".join(lines)
