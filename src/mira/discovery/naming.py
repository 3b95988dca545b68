"""Which point of a cluster gives the slot its name, and how far that name covers the cluster."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

__all__ = ["NameBy", "commonest_names", "covered", "exemplar", "name_words"]

NameBy = Literal["medoid", "common_words"]

_WORD = re.compile(r"[^\W\d_]+")
_EMPTY = frozenset(["a", "an", "and", "by", "for", "from", "in", "of", "on", "or", "per", "the", "to", "with"])
_SHARED_BY = 2  # a word is common if at least so many points carry it
_WANTED = 2  # common words that a name should carry


def name_words(name: str) -> frozenset[str]:
    """Return the words of a dimension's name in lower case, without articles and prepositions."""
    return frozenset(_WORD.findall(name.lower())) - _EMPTY


def exemplar(names: Sequence[str], by: NameBy) -> int:
    """Return the position of the point that names a cluster.

    `medoid`, the method's rule, is the point nearest to the centroid. `common_words` (ours) is the nearest point whose
    name carries the two words that most points carry; if no point carries both, the commonest one. Words that only one
    point carries do not count, so a cluster without common words is named by its medoid.

    Args:
        names: Dimension names of the cluster's points, nearest to the centroid first.
        by: The rule.
    """
    if by == "medoid":
        return 0
    words = [name_words(name) for name in names]
    for wanted in (_WANTED, 1):
        common = _common(words)[:wanted]
        found = next((i for i, own in enumerate(words) if own.issuperset(common)), None)
        if len(common) == wanted and found is not None:
            return found
    return 0


def _common(words: Sequence[frozenset[str]]) -> list[str]:
    """Return the words that several points carry, by how many do; ties in alphabetical order."""
    counts = Counter(word for own in words for word in own)
    return sorted((w for w, n in counts.items() if n >= _SHARED_BY), key=lambda w: (-counts[w], w))


def covered(name: str, names: Sequence[str]) -> float:
    """Return the share of names that have a word of `name` in common with it, 0..1; 0 without names."""
    own = name_words(name)
    return sum(not own.isdisjoint(name_words(other)) for other in names) / len(names) if names else 0.0


def commonest_names(names: Sequence[str], most: int = 3) -> list[tuple[str, int]]:
    """Return the most frequent names and how many points have them; ties in the given order."""
    return Counter(names).most_common(most)
