"""Other names: earlier names of settings, and YAML aliases (`*name`).

An earlier name of a setting keeps working, and appears nowhere in the docs. Of YAML aliases, a short file can make more
values than any machine can read.
"""

from typing import Any

import yaml
from pydantic import AliasChoices, Field

from mira.errors import ConfigError

__all__ = ["check_aliases", "renamed"]

_MOST_VALUES = 100_000  # of a whole file: a source takes five


def renamed(name: str, earlier: str, **options: Any) -> Any:
    """Return the field of a setting that had another name.

    Files and overrides may use either name. Fingerprints use the earlier one, so that no run becomes stale.

    Args:
        name: The setting's name today.
        earlier: Its name in earlier releases.
        **options: As of pydantic's `Field`.
    """
    return Field(validation_alias=AliasChoices(name, earlier), serialization_alias=earlier, **options)


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
