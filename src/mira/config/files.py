"""Settings files: read as YAML nodes, which know their file and line, and merged with the files that they include.

`include` names other settings files, relative to the file that includes them. Included files come first, in order; what
comes later wins, and the including file comes last. Mappings are merged key by key. Lists whose entries have names
(sources, benchmarks) are merged by name; all other lists, and empty ones, replace what was there.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mira.config.aliases import check_aliases
from mira.errors import ConfigError

__all__ = ["construct", "find_node", "read_nodes"]

_INCLUDE = "include"
_DEEPEST = 20  # files that include each other


def read_nodes(path: Path) -> yaml.MappingNode | None:
    """Read a settings file and all that it includes.

    Args:
        path: The file.

    Returns:
        The merged settings; every node's mark has its file and line. None if the file is empty.

    Raises:
        ConfigError: A file is missing or is not YAML, a key is given twice, or files include each other.
    """
    return _read(path, (), {})


def construct(root: yaml.Node | None) -> dict[str, Any]:
    """Return the values of nodes."""
    return {} if root is None else dict(yaml.SafeLoader("").construct_document(root))


def find_node(root: yaml.Node | None, place: tuple[str | int, ...]) -> tuple[yaml.Node | None, yaml.Mark | None]:
    """Find the node at a place, and where its line is.

    Returns:
        The node, None if it is not there; and the mark of its key, or of the last node on the way to it.
    """
    node, mark = root, root.start_mark if root else None
    for part in place:
        if isinstance(node, yaml.MappingNode):
            match = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if match is None:
                return None, mark
            mark, node = match[0].start_mark, match[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
        else:
            return None, mark
    return node, mark


def _read(path: Path, chain: tuple[Path, ...], known: dict[Path, yaml.MappingNode | None]) -> yaml.MappingNode | None:
    real = path.resolve()
    if real in known:
        return known[real]
    own = _compose(path)
    if own is None:
        known[real] = None
        return None
    merged: yaml.Node | None = None
    for line, included in _included(path, own):
        where = f"{path}:{line}: include"
        if included.resolve() in (real, *(p.resolve() for p in chain)):
            circle = " -> ".join(map(str, (*chain, path, included)))
            raise ConfigError(f"{where}: the files include each other: {circle}", "Take one of these out.")
        if len(chain) >= _DEEPEST:
            raise ConfigError(
                f"{where}: more than {_DEEPEST} files deep", "Include the files that are needed directly."
            )
        if not included.is_file():
            raise ConfigError(
                f"{where}: {included}: there is no such file",
                "The paths of included files are relative to the file that includes them.",
            )
        inner = _read(included, (*chain, path), known)
        merged = inner if merged is None or inner is None else _merged(merged, inner)
    pairs = [(key, value) for key, value in own.value if key.value != _INCLUDE]
    own = yaml.MappingNode(own.tag, pairs, own.start_mark, own.end_mark)
    whole = own if merged is None else _merged(merged, own)
    check_aliases(whole, str(path))
    known[real] = whole if isinstance(whole, yaml.MappingNode) else own
    return known[real]


def _compose(path: Path) -> yaml.MappingNode | None:
    """Read one file; every mapping has its merge keys (`<<`) resolved and each key once."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file", "Write one with: mira init") from None
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{number}: not UTF-8", "Save the file as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", "Check the path and its permissions.") from None
    try:
        loader = yaml.SafeLoader(text)
        loader.name = str(path)
        root = loader.get_single_node()
        check_aliases(root, str(path))
        value = yaml.safe_load(text)
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply", "Settings need five levels at most.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date or time
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or f"not valid YAML: {str(error).partition(chr(10))[0]}"
        raise ConfigError(
            f"{path}{line}: {problem}", "Check the indentation and the colons around that line."
        ) from None
    if value is None:
        return None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:1: expected settings such as 'sources:'", "Write a template with: mira init")
    for key in _doubled_keys(root, set()):
        raise ConfigError(f"{path}:{key.start_mark.line + 1}: '{key.value}' is given twice", "Remove one of the two.")
    _flatten(root, set())
    return root


def _doubled_keys(node: yaml.Node, seen: set[int]) -> Iterator[yaml.Node]:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        names = set()
        for key, child in node.value:
            if key.value in names:
                yield key
            names.add(key.value)
            yield from _doubled_keys(child, seen)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _doubled_keys(child, seen)


def _flatten(node: yaml.Node, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yaml.SafeLoader("").flatten_mapping(node)
        node.value = list({key.value: (key, child) for key, child in node.value}.values())
    for child in node.value if not isinstance(node, yaml.ScalarNode) else ():
        _flatten(child[1] if isinstance(node, yaml.MappingNode) else child, seen)


def _included(path: Path, root: yaml.MappingNode) -> Iterator[tuple[int, Path]]:
    """Yield the line and the path of every file that a file includes."""
    for key, value in root.value:
        if key.value != _INCLUDE:
            continue
        line = key.start_mark.line + 1
        named = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if isinstance(value, yaml.ScalarNode) and value.tag.endswith(":null"):
            named = []
        for item in named:
            if not isinstance(item, yaml.ScalarNode) or not item.value.strip() or re.search("://|\0", item.value):
                raise ConfigError(
                    f"{path}:{line}: include: expected a local settings file, or a list of them",
                    "For example: include: base.yaml",
                )
            yield item.start_mark.line + 1, path.parent / item.value


def _merged(base: yaml.Node, over: yaml.Node) -> yaml.Node:
    if isinstance(base, yaml.MappingNode) and isinstance(over, yaml.MappingNode) and _name(base) == _name(over):
        pairs = {key.value: (key, value) for key, value in base.value}
        for key, value in over.value:
            before = pairs.get(key.value)
            pairs[key.value] = (key, _merged(before[1], value) if before else value)
        return yaml.MappingNode(over.tag, list(pairs.values()), over.start_mark, over.end_mark)
    if isinstance(base, yaml.SequenceNode) and isinstance(over, yaml.SequenceNode) and over.value:
        places = {_name(item): at for at, item in enumerate(base.value)}
        if None not in places and all(_name(item) for item in over.value):
            items = list(base.value)
            for item in over.value:
                # of two entries of one name in one list, the second is not merged: it is refused later
                at = places.pop(_name(item), None)
                if at is None:
                    items.append(item)
                else:
                    items[at] = _merged(items[at], item)
            return yaml.SequenceNode(over.tag, items, over.start_mark, over.end_mark)
    return over


def _name(node: yaml.Node) -> str | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((v.value for k, v in pairs if k.value == "name" and isinstance(v, yaml.ScalarNode)), None)
