"""Known ways to spoil a record: each turns good text into text that nobody would train on. All of it is ours."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

import numpy as np

from mira.corpus.families import find_family
from mira.corpus.record import Part, Record

__all__ = ["Fault", "degrade", "faults_of"]


class Fault(StrEnum):
    """What is done to a record. The copy is as long as the original, except where it is truncated."""

    BOILERPLATE = "boilerplate"  # all but the start gives way to navigation, cookie and licence lines
    TRUNCATED = "truncated"  # ends in mid-word after a quarter
    SHUFFLED = "shuffled"  # lines (of short texts: words) in random order
    DUPLICATED = "duplicated"  # the first quarter four times over
    OFF_FAMILY = "off_family"  # an advertisement instead of the text
    GARBAGE = "garbage"  # encoded bytes instead of all but the start


_SHORTEST = 80
"""Characters that a text needs to be degraded."""

_BOILERPLATE = (
    "Home | Products | Pricing | Blog | Careers | Contact us | Log in | Sign up",
    "We use cookies to improve your experience. By continuing you accept our cookie policy. [Accept] [Decline]",
    "All rights reserved. No part of this page may be reproduced without written permission.",
    "Share on social media | Print this page | Subscribe to our newsletter | Back to top",
    "Terms of service - Privacy policy - Accessibility - Sitemap - Do not sell my personal information",
    "You may also like: 10 related articles. Read more... Read more... Read more...",
    "This website is provided \"as is\" without warranty of any kind, express or implied.",
    "Loading... Please enable JavaScript to view this content.",
)  # fmt: skip
_OPENINGS = ("Hurry!", "Only today:", "Best price ever:", "Do not miss out:", "Special offer!", "Just arrived:")
_GOODS = ("garden chairs", "running shoes", "phone covers", "scented candles", "coffee mugs", "yoga mats", "sun hats")
_PRAISE = ("our customers love them", "free delivery over 20", "buy two, get one free", "five stars from 8,231 buyers")


def faults_of(family: str) -> tuple[str, ...]:
    """Return the faults that records of a family are spoiled with: those of its own where it has some."""
    return tuple(find_family(family).own_faults()) or tuple(Fault)


def degrade(record: Record, fault: str, seed: int = 0, other: Record | None = None) -> Record | None:
    """Return a spoiled copy of a record, the same for the same record, fault and seed.

    A `Fault` spoils the longest part, the others stay; a family's own faults spoil what they say. The copy's id is
    "<id>~<fault>"; its tokens are not counted.

    Args:
        record: The record, of the fault's family; a `Fault` suits all.
        fault: What to do to it, see `faults_of`.
        seed: Another seed gives another copy, where chance plays a part.
        other: Another record of the source, which some faults take a part of.

    Returns:
        The copy, or None where it cannot be spoiled this way: the text has less than 80 characters, or every order of
        its words is the same; there is no code, no call, or no other record.
    """
    key = f"{seed}\x1f{record.source}\x1f{record.id}\x1f{fault}".encode()
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "big"))
    own = find_family(record.family).own_faults().get(fault)
    parts = own(record, rng, other) if own else _longest_spoiled(record, Fault(fault), rng)
    return replace(record, id=f"{record.id}~{fault}", parts=tuple(parts), n_tokens=0) if parts else None


def _longest_spoiled(record: Record, fault: Fault, rng: np.random.Generator) -> list[Part] | None:
    at = max(range(len(record.parts)), key=lambda i: len(record.parts[i].text))
    text = record.parts[at].text
    if len(text) < _SHORTEST:
        return None
    spoiled = _FAULTS[fault](text, rng)
    if spoiled.split() == text.split():
        return None
    return [replace(p, text=spoiled) if i == at else p for i, p in enumerate(record.parts)]


def _boilerplate(text: str, rng: np.random.Generator) -> str:
    lines = [_BOILERPLATE[i] for i in rng.integers(0, len(_BOILERPLATE), len(text) // 50 + 1)]
    return "\n".join([text[: len(text) // 5], *lines])[: len(text)]


def _truncated(text: str, rng: np.random.Generator) -> str:
    stop = len(text) // 4
    while stop > 1 and not (text[stop - 1].isalnum() and text[stop].isalnum()):
        stop -= 1
    return text[: max(stop, 1)]


def _shuffled(text: str, rng: np.random.Generator) -> str:
    pieces, glue = text.split("\n"), "\n"
    if len(pieces) < 8:
        pieces, glue = text.split(), " "
    return glue.join(pieces[i] for i in rng.permutation(len(pieces)))


def _duplicated(text: str, rng: np.random.Generator) -> str:
    block = text[: len(text) // 4]
    return "\n".join([block] * 4)[: len(text)]


def _off_family(text: str, rng: np.random.Generator) -> str:
    def line() -> str:
        opening, goods, praise = (words[rng.integers(len(words))] for words in (_OPENINGS, _GOODS, _PRAISE))
        return f"{opening} {goods} from {rng.integers(3, 99)}.99, {praise}."

    return "\n".join(line() for _ in range(len(text) // 40 + 1))[: len(text)]


def _garbage(text: str, rng: np.random.Generator) -> str:
    alphabet = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=%", dtype="S1")
    start = text[: len(text) // 5]
    drawn = b"".join(alphabet[rng.integers(0, len(alphabet), len(text) - len(start))]).decode()
    return "\n".join([start, *(drawn[i : i + 76] for i in range(0, len(drawn), 76))])[: len(text)]


_FAULTS: dict[Fault, Callable[[str, np.random.Generator], str]] = {
    Fault.BOILERPLATE: _boilerplate,
    Fault.TRUNCATED: _truncated,
    Fault.SHUFFLED: _shuffled,
    Fault.DUPLICATED: _duplicated,
    Fault.OFF_FAMILY: _off_family,
    Fault.GARBAGE: _garbage,
}
