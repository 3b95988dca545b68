"""Attempts: a function whose errors are results, so that one bad item does not end the others."""

import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from mira.errors import MiraError

__all__ = ["Attempt", "Attempted"]

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")


class Attempted(NamedTuple, Generic[Key, Result]):
    """What came of an item: a result, or an error."""

    key: Key
    result: Result | None
    error: Exception | None


@dataclass(frozen=True)
class Attempt(Generic[Key, Item, Result]):
    """Runs a function over an item that has a key; what the function raises is returned.

    Attributes:
        function: Item -> result.
    """

    function: Callable[[Item], Result]

    def __call__(self, keyed: tuple[Key, Item]) -> Attempted[Key, Result]:
        """Return what came of the item."""
        key, item = keyed
        try:
            return Attempted(key, self.function(item), None)
        except Exception as error:
            if not isinstance(error, MiraError | OSError):  # on its way from a process, an error loses its traceback
                error.add_note("".join(traceback.format_exception(error)))
            return Attempted(key, None, error)
