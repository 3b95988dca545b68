"""DataMan's rubric (arXiv 2502.19363): 14 ratings of 1-5 and one of 15 domains, as its released models give them.

The prompt's form is theirs, for they were tuned on it. A reply is 15 bare lines: the domain's letter (A = Medicine,
..., O = Other), then the ratings in order. Their own reader pairs lines with criteria by position, so that one missing
line shifts every later rating; here such a reply is refused whole.
"""

import re
from dataclasses import dataclass

from mira.judging.fence import defuse
from mira.judging.grammar.normalise import answer_start, flatten
from mira.tokens import Tokenizer

__all__ = ["CRITERIA", "DOMAINS", "MAX_TEXT_TOKENS", "DataManReply", "cut_text", "parse", "prompt"]

CRITERIA = (
    "Accuracy", "Coherence", "Language Consistency", "Semantic Density", "Knowledge Novelty", "Topic Focus",
    "Creativity", "Professionalism", "Style Consistency", "Grammatical Diversity", "Structural Standardization",
    "Originality", "Sensitivity", "Overall Score",
)  # fmt: skip
DOMAINS = (
    "Medicine", "Finance", "Law", "Education", "Technology", "Entertainment", "Mathematics", "Coding", "Government",
    "Culture", "Transportation", "Retail E-commerce", "Telecommunication", "Agriculture", "Other",
)  # fmt: skip
MAX_TEXT_TOKENS = 1894


@dataclass(frozen=True, slots=True)
class DataManReply:
    """A reply of a DataMan model.

    Attributes:
        domain: One of `DOMAINS`.
        ratings: 1-5, one a criterion, in the order of `CRITERIA`; the last is the overall score.
    """

    domain: str
    ratings: tuple[int, ...]

    @property
    def overall(self) -> int:
        """The rating that selection goes by."""
        return self.ratings[-1]


def cut_text(text: str, tokenizer: Tokenizer, max_tokens: int = MAX_TEXT_TOKENS) -> tuple[str, int]:
    """Cut a text as DataMan does: the first half of the tokens, "...", the last half.

    Returns:
        The text, and how many tokens were cut out of it (0: it is whole).
    """
    if len(text.encode("utf-8", "surrogatepass")) <= max_tokens:  # no byte-level tokenizer makes more tokens
        return text, 0
    ids = tokenizer.encode(text)
    if len(ids) <= max_tokens:
        return text, 0
    half = max_tokens // 2
    head, tail = tokenizer.decode(ids[:half]), tokenizer.decode(ids[-half:])
    return f"{head.rstrip(_BROKEN)}...{tail.lstrip(_BROKEN)}", len(ids) - 2 * half


_BROKEN = "\ufffd"  # half a character at the cut


def prompt(text: str, tokenizer: Tokenizer, max_tokens: int = MAX_TEXT_TOKENS) -> tuple[str, tuple[str, ...]]:
    """Return the user message of a text, and notes of what was done to it ("cut:1234", "defused:2").

    The text is cut to `max_tokens`. It is not fenced: the models were tuned on exactly this form, and can answer with
    ratings alone.
    """
    safe, defused = defuse(text)
    shown, cut = cut_text(safe, tokenizer, max_tokens)
    notes = (*((f"defused:{defused}",) if defused else ()), *((f"cut:{cut}",) if cut else ()))
    lines = [f"[{i}]{name}:_/5" for i, name in enumerate(CRITERIA, 1)]
    opening = "Please score the text on fourteen evaluation criteria and specify its domain:"
    return "\n".join([opening, f"Text: {shown.strip()}", "Domain:_", *lines]), notes


_DOMAIN = re.compile(r"(?:Domain\s*:)?[\s_\[]*(?P<domain>[A-Za-z][A-Za-z -]*?)[\s_\].]*", re.IGNORECASE)
_RATING = re.compile(r"(?:\[(?P<number>\d+)\]\s*(?P<name>[A-Za-z][A-Za-z ]*):)?\s*(?P<rating>[1-5])\s*(?:/\s*5)?")


def parse(text: str) -> DataManReply | None:
    """Read a reply, or refuse it: None unless there is the domain and then every rating, each on a line of its own.

    Labels ("[1]Accuracy:4/5") and the domain's full name are read too; a label that does not fit its place refuses.
    """
    flat = flatten(text)
    start, _ = answer_start(flat, (), truncated=False)
    lines = [line.strip() for line in flat[start:].strip().splitlines() if line.strip()]
    if len(lines) != 1 + len(CRITERIA):
        return None
    match = _DOMAIN.fullmatch(lines[0])
    domain = _DOMAIN_NAMES.get(match["domain"].casefold()) if match else None
    if domain is None:
        return None
    ratings = []
    for number, (criterion, line) in enumerate(zip(CRITERIA, lines[1:], strict=True), 1):
        rated = _RATING.fullmatch(line)
        if not rated or (rated["number"] and not _fits(rated, number, criterion)):
            return None
        ratings.append(int(rated["rating"]))
    return DataManReply(domain, tuple(ratings))


_DOMAIN_NAMES = {name.casefold(): name for name in DOMAINS} | {chr(ord("a") + i): n for i, n in enumerate(DOMAINS)}


def _fits(rated: re.Match[str], number: int, criterion: str) -> bool:
    return int(rated["number"]) == number and " ".join(rated["name"].split()).casefold() == criterion.casefold()
