"""YAML aliases (`*name`), of which a short file can make more values than any machine can read."""

import yaml

from mira.errors import ConfigError

__all__ = ["check_aliases"]

_MOST_VALUES = 100_000  # of a whole file: a source takes five


def check_aliases(root: yaml.Node | None, where: str) -> None:
    """Refuse settings whose aliases (`*name`) stand for so many values that nothing could read them all.

    Args:
        root: The document, as `yaml.compose` returns it.
        where: What messages call the document.

    Raises:
        ConfigError: It has more than 100,000 values, or holds itself.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        known = sizes.get(id(node))
        if known is None:
            sizes[id(node)] = _MOST_VALUES + 1  # what a node that holds itself would have
            inner = [n for pair in node.value for n in pair] if isinstance(node, yaml.MappingNode) else node.value
            known = sizes[id(node)] = 1 if isinstance(node, yaml.ScalarNode) else 1 + sum(map(size, inner))
        return known

    if root is not None and size(root) > _MOST_VALUES:
        raise ConfigError(
            f"{where}: its aliases stand for more than {_MOST_VALUES:,} values, or for themselves",
            "Write the values out where they are needed.",
        )
