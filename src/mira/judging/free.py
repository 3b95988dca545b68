"""Free-form judging (Phase 1): with no preset rubric, the teacher names the dimensions that matter for a record.

The reply has one line a judgment point, `[1] <dimension>: <score>/10 — <reason>`: the grammar of anchored judging, with
numbers for slots. The wording of the prompt is ours; the paper's is unpublished.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from mira.corpus.record import Record
from mira.errors import InputError
from mira.family import FamilyName
from mira.judging.fence import FENCE_VERSION, fenced_message
from mira.judging.grammar.normalise import answer_start, flatten, lines_after_thinking, without_echo
from mira.judging.grammar.score import later_score
from mira.judging.prompt import DEFAULT_CORPUS, UserPrompt, records_of
from mira.rubric.points import JudgmentPoint
from mira.run_folder.files import hash_json
from mira.tokens import Tokenizer
from mira.unscored import Unscored

__all__ = ["FreePrompt", "FreeReply", "build_free_prompt", "parse_free_reply", "read_free_judgments"]

_FORM_VERSION = 1


@dataclass(frozen=True)
class FreePrompt:
    """How a record is put to the teacher without a rubric.

    Attributes:
        system: The system prompt, the same for every record of a family.
        points: Judgment points to ask for per record.
    """

    system: str
    points: int
    _system_tokens: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def hash(self) -> str:
        """Hash of all that defines the prompt. 16 hex digits."""
        return hash_json([_FORM_VERSION, FENCE_VERSION, self.system, self.points])

    def user(
        self,
        record: Record,
        replicate: int = 0,
        max_tokens: int | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> UserPrompt | None:
        """Return the user message of a record: see `Prompt.user`. `replicate` does not change it."""
        form = "[1] <dimension>: <score>/10 — <reason, one sentence, specific to the record>"
        ask = f"Reply with exactly {self.points} lines of this form, numbered from 1, and nothing else:\n{form}"
        limit = None if max_tokens is None or tokenizer is None else max_tokens - self._counted(tokenizer)
        message = fenced_message(record.parts, ask, limit, tokenizer)
        return UserPrompt(message.text, message.notes, ()) if message else None

    def _counted(self, tokenizer: Tokenizer) -> int:
        if tokenizer.name not in self._system_tokens:
            self._system_tokens[tokenizer.name] = tokenizer.count([self.system])[0]
        return self._system_tokens[tokenizer.name]


def build_free_prompt(
    family: str = FamilyName.TEXT,
    *,
    corpus: str = DEFAULT_CORPUS,
    records: str | Mapping[str, str] = "",
    points: int = 15,
) -> FreePrompt:
    """Return the prompt of free-form judging.

    Args:
        family: Name of the records' family.
        corpus: What the records are judged as (`discover.corpus` in mira.yaml).
        records: What the records are, or family -> what they are; by default a phrase for the family.
        points: Dimensions to propose a record.
    """
    system = (
        f"You judge records of {records_of(family, records)} as {corpus}.\n"
        f"There is no preset rubric. For every record, name the {points} quality dimensions that tell most about its "
        "worth, and score the record on each. 0 = worthless on that dimension, 10 = as good as training data gets; "
        "halves allowed; use the whole scale.\n"
        "A dimension is a quality that other records have more or less of too, named in one to four words; it is not "
        "the record's topic. Higher is always better. Choose dimensions that differ from each other, and include those "
        "on which the record does badly. A reason is one sentence that points at something in the record.\n"
    )
    return FreePrompt(system=system, points=points)


@dataclass(frozen=True, slots=True)
class FreeReply:
    """What a free-form reply says.

    Attributes:
        points: The judgment points that could be read, in order.
        reason_unscored: Set if no point could be read.
        notes: "skipped:3" where three numbered lines held no readable point.
    """

    points: tuple[JudgmentPoint, ...]
    reason_unscored: Unscored | None = None
    notes: tuple[str, ...] = ()


_HEAD = re.compile(
    r"^[^\w\n\[({<]{0,16}(?:[\[({<][^\S\n]*[A-Za-z]?(?P<boxed>\d{1,3})[^\S\n]*[\])}>]|(?P<plain>\d{1,3})[.):])",
    re.MULTILINE,
)
_GAP = re.compile(r"[*_`]*[^\S\n]*(?:[—–:：|,;.=]|--?)?(?:\*\*(?=\s|$))?[^\S\n]*", re.MULTILINE)
_NAME = re.compile(r"[^\w(]*(?P<name>.*?)[\s:：|｜=—–\-*_`(（\[【{]*\Z", re.DOTALL)
_LONGEST_NAME = 100


def parse_free_reply(text: str, record: str, source: str, *, truncated: bool = False) -> FreeReply:
    """Read a free-form reply. Never raises, whatever the text.

    Tolerates what `parse_reply` tolerates around a line, and a JSON list of objects with `dimension`, `score` and
    `reason` in place of lines. A line whose score is missing, out of range or ambiguous is passed over, as is the last
    line of a reply that was cut.

    Args:
        text: The reply as it came.
        record: Id of the judged record.
        source: Its source.
        truncated: The reply ended at its token limit.
    """
    text = without_echo(text)
    flat = flatten(text)
    heads = [(head.start(), _number(head)) for head in _HEAD.finditer(lines_after_thinking(flat))]
    start, unclosed = answer_start(flat, heads, truncated=truncated)
    if unclosed:
        return FreeReply((), Unscored.TRUNCATED if truncated else Unscored.UNPARSABLE)
    if start:  # a line may stand right behind the thinking's last tag
        flat = f"{flat[: start - 1]}\n{flat[start:]}"
    found = _last_list(list(_lines(text, flat, start, truncated=truncated))) or list(_objects(text[start:]))
    values = [value for value in found if value is not None]
    if not values:
        return FreeReply((), Unscored.TRUNCATED if truncated else Unscored.UNPARSABLE)
    skipped = len(found) - len(values)
    points = tuple(_point(record, source, value) for value in values)
    return FreeReply(points, None, (f"skipped:{skipped}",) if skipped else ())


_Value = tuple[str, float, str]


def _point(record: str, source: str, value: _Value) -> JudgmentPoint:
    return JudgmentPoint(record, source, *value)


def _number(head: re.Match[str]) -> int:
    return int(head["boxed"] or head["plain"])


def _last_list(lines: list[tuple[int, _Value | None]]) -> list[_Value | None]:
    """Return the lines of the last complete list: a list ends where a number comes that it has already.

    A list is complete when no other one is longer. Lists of one line each are not lists: numbers were just repeated.
    """
    lists: list[list[_Value | None]] = [[]]
    numbers: set[int] = set()
    for number, value in lines:
        if value is not None and number in numbers:
            lists.append([])
            numbers.clear()
        if value is not None:
            numbers.add(number)
        lists[-1].append(value)
    points = [sum(value is not None for value in each) for each in lists]
    if max(points) < 2:
        return [value for _, value in lines]
    return lists[len(lists) - 1 - points[::-1].index(max(points))]


def _lines(text: str, flat: str, start: int, *, truncated: bool) -> Iterator[tuple[int, _Value | None]]:
    heads = list(_HEAD.finditer(flat, start))
    stops = [head.start() for head in heads[1:]] + [len(flat)]
    for head, stop in zip(heads, stops, strict=bool(heads)):
        line_end = flat.find("\n", head.end(), stop)
        line_end = stop if line_end < 0 else line_end
        score = later_score(flat, head.end(), line_end)
        name = _NAME.match(text[head.end() : score.start]) if score else None
        # Without "/10" the reply's last number may be the start of a longer one.
        is_open = score is not None and not score.explicit and not flat[score.stop :].strip()
        if is_open or not score or score.value is None or not name or not 0 < len(name["name"]) <= _LONGEST_NAME:
            yield _number(head), None
        elif not (truncated and stop == len(flat)):
            gap = _GAP.match(text, score.stop, stop)
            reason = " ".join(text[gap.end() if gap else score.stop : stop].strip().split("\n\n")[0].split())
            yield _number(head), (" ".join(name["name"].split()), score.value, reason)


def _objects(text: str) -> Iterator[_Value | None]:
    begin, end = text.find("["), text.rfind("]")
    try:
        values = orjson.loads(text[begin : end + 1]) if 0 <= begin < end else []
    except orjson.JSONDecodeError:
        return
    for value in values:
        if isinstance(value, dict):
            yield _value(value) if not _problem(value) else None


def _value(point: Mapping[str, Any]) -> _Value:
    return " ".join(point["dimension"].split()), float(point["score"]), " ".join(point["reason"].split())


def _problem(point: Any) -> str:
    """Say what keeps a JSON value from being a judgment point; "" for nothing."""
    if not isinstance(point, dict):
        return "is not an object"
    for name in ("dimension", "reason"):
        if not isinstance(point.get(name), str) or (name == "dimension" and not point[name].strip()):
            return f"has no text as '{name}'"
    score = point.get("score")
    if type(score) not in (int, float) or not 0 <= score <= 10:  # type: ignore[operator]
        return "has no number from 0 to 10 as 'score'"
    return ""


_EXAMPLE = (
    'Each line is {"id": "...", "source": "...", "points": [{"dimension": "...", "score": 7.5, "reason": "..."}, ...]}.'
)


def read_free_judgments(paths: Path | str | Sequence[Path | str]) -> list[JudgmentPoint]:
    """Read recorded free-form judgments, one record a line: `id`, `source`, `points`.

    Returns:
        All judgment points, in the order of the files.

    Raises:
        InputError: A file cannot be read, a line or a point in it is malformed, or a record is there twice.
    """
    several = [paths] if isinstance(paths, str | Path) else paths
    points: list[JudgmentPoint] = []
    seen: dict[tuple[str, str], str] = {}
    for path in map(Path, several):
        try:
            lines = path.open("rb")
        except OSError as error:
            raise InputError(
                f"{path}: cannot read the free judgments: {error.strerror}", "Point to a JSONL file of free judgments."
            ) from None
        with lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    points += _recorded(line, f"{path}:{number}", seen)
    return points


def _recorded(line: bytes, where: str, seen: dict[tuple[str, str], str]) -> Iterator[JudgmentPoint]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON: {error}", _EXAMPLE) from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: not a JSON object", _EXAMPLE)
    for name, kind in (("id", str), ("source", str), ("points", list)):
        if not isinstance(value.get(name), kind):
            wanted = "a list" if kind is list else "a string"
            raise InputError(f"{where}: field '{name}' is missing or not {wanted}", _EXAMPLE)
    key = value["source"], value["id"]
    if key in seen:
        raise InputError(
            f"{where}: record '{key[1]}' of source '{key[0]}' is already judged at {seen[key]}", "Keep one of the two."
        )
    seen[key] = where
    for i, point in enumerate(value["points"]):
        problem = _problem(point)
        if problem:
            raise InputError(f"{where}: points[{i}] {problem}", _EXAMPLE)
        yield _point(value["id"], value["source"], _value(point))
