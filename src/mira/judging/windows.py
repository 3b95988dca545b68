"""Long records in windows: a record becomes several, and their judgements become one again."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mira.arrays import Floats
from mira.config.settings import WindowSettings
from mira.corpus.record import Part, Record
from mira.judging.fence import cut_parts
from mira.judging.judge import Judge, JudgeTask
from mira.llm.client import Client
from mira.llm.failures import Failures
from mira.llm.request import Request
from mira.rubric.judgement import Judgement
from mira.rubric.slots import slot_name
from mira.run_folder.files import hash_json
from mira.tokens import Tokenizer, tokenizer
from mira.unscored import Unscored

__all__ = ["WindowedJudge", "aggregate", "combine", "count_windows", "windows_of"]

MARK = "\x1fwindow "
_PARTS = 3
"""Records of more parts, such as traces, are read part by part; of others, the longest part is."""
_AGAIN = (Unscored.ENDPOINT_ERROR, Unscored.NOT_RECORDED)


def windows_of(record: Record, settings: WindowSettings) -> tuple[Record, ...]:
    """Return a record's windows as records of the same source and family, or the record alone where it fits.

    Of a record of few parts, such as a question and its answer, the longest part is cut into windows, and every window
    has the others whole; where those take more than half of the room, they are cut in their middle. A record of many
    parts, such as a trace, is cut as one text, and every piece keeps its label. Windows are evenly spaced from head to
    tail. With more of them than `settings.max`, what lies between is not read.

    Args:
        record: Any record.
        settings: Sizes in tokens of the built-in tokenizer qwen3.
    """
    if sum(len(part.text.encode("utf-8", "replace")) for part in record.parts) <= settings.tokens:
        return (record,)  # a token has at least one byte
    coder = tokenizer("qwen3", 1)
    ids = [coder.encode(part.text) for part in record.parts]
    if sum(map(len, ids)) <= settings.tokens:
        return (record,)
    if len(record.parts) > _PARTS:
        found = _along(record.parts, ids, settings, coder)
    else:
        found = _longest(record.parts, ids, settings, coder)
    return tuple(replace(record, id=f"{record.id}{MARK}{i}", parts=parts) for i, parts in enumerate(found))


def count_windows(n_tokens: NDArray[np.int32], settings: WindowSettings) -> int:
    """Return how many windows records of so many tokens have together."""
    step = settings.tokens - settings.overlap
    more = np.ceil(np.maximum(n_tokens - settings.tokens, 0) / step)
    return int(np.minimum(1 + more, settings.max).sum())


def _starts(length: int, room: int, settings: WindowSettings) -> list[int]:
    step = max(room - settings.overlap, 1)
    count = min(1 + max(0, -(-(length - room) // step)), settings.max)
    return [round(i * (length - room) / (count - 1)) for i in range(count)] if count > 1 else [0]


def _longest(
    parts: Sequence[Part], ids: Sequence[list[int]], settings: WindowSettings, coder: Tokenizer
) -> Iterator[tuple[Part, ...]]:
    long = max(range(len(parts)), key=lambda i: len(ids[i]))
    others = [part for i, part in enumerate(parts) if i != long]
    half = settings.tokens // 2
    if sum(len(found) for i, found in enumerate(ids) if i != long) > half:
        cut = cut_parts(others, half, coder)
        others = list(cut.parts) if cut else [Part(p.label, coder.decode(coder.encode(p.text)[:8])) for p in others]
    room = max(settings.tokens - sum(coder.count([p.text for p in others])), 8)
    for start in _starts(len(ids[long]), room, settings):
        piece = Part(parts[long].label, _text(ids[long][start : start + room], coder))
        yield (*others[:long], piece, *others[long:])


def _along(
    parts: Sequence[Part], ids: Sequence[list[int]], settings: WindowSettings, coder: Tokenizer
) -> Iterator[tuple[Part, ...]]:
    ends = np.cumsum([len(found) for found in ids])
    for start in _starts(int(ends[-1]), settings.tokens, settings):
        stop, window = start + settings.tokens, []
        for part, found, end in zip(parts, ids, ends, strict=True):
            first = int(end) - len(found)
            if first < stop and end > start:
                whole = first >= start and end <= stop
                text = part.text if whole else _text(found[max(start - first, 0) : stop - first], coder)
                window.append(Part(part.label, text))
        yield tuple(window)


def _text(ids: Sequence[int], coder: Tokenizer) -> str:
    return coder.decode(ids).strip("\ufffd") or " "


def aggregate(scores: Floats, settings: WindowSettings) -> tuple[Floats, Floats]:
    """Return a record's scores from those of its windows, and their spread.

    Args:
        scores: (windows, slots) or with `overall` as a further column; NaN is not scored. A slot takes the mean, the
            lowest or the highest of its scored windows, as `settings` say; `overall` the mean.
        settings: How slots are taken together.

    Returns:
        Scores and their standard deviation over the scored windows, each (columns,); NaN where no window has a score.
    """
    found, spread = np.full(scores.shape[1], np.nan), np.full(scores.shape[1], np.nan)
    how: dict[str, Callable[[Floats], float]] = {
        "mean": lambda x: float(x.mean()),
        "min": lambda x: float(x.min()),
        "max": lambda x: float(x.max()),
    }
    for j, column in enumerate(scores.T):
        known = column[np.isfinite(column)]
        if len(known):
            found[j] = how[settings.slots.get(slot_name(j), settings.aggregate)](known)
            spread[j] = known.std()
    return found, spread


def combine(record: Record, windows: Sequence[Judgement], settings: WindowSettings, judge: str) -> Judgement:
    """Return one judgement of a record from those of its windows, in order.

    A window that could not be judged but may be another time leaves the record unscored, so that it is tried again.
    """
    n_slots, notes = len(windows[0].scores), (f"windows:{len(windows)}", *_notes(windows))
    first = windows[0]
    failed = next((w.reason_unscored for w in windows if w.reason_unscored in _AGAIN), None)
    if failed is None and all(w.reason_unscored for w in windows):
        failed = first.reason_unscored
    if failed is not None:
        return Judgement.unscored(
            record.id, record.source, n_slots, failed, replicate=first.replicate, judge=judge, notes=notes
        )
    rows = np.array([[*w.scores, None] for w in windows], dtype=np.float64)
    scores, spread = aggregate(rows[:, :-1], settings)
    overall = [w.overall for w in windows if w.overall is not None]
    verdicts = Counter(w.recommendation for w in windows if w.recommendation is not None).most_common()
    agreed = bool(verdicts) and (len(verdicts) == 1 or verdicts[0][1] > verdicts[1][1])
    missing = {}
    for j in np.flatnonzero(~np.isfinite(scores)):
        slot = slot_name(int(j))
        missing[slot] = next((w.missing[slot] for w in windows if slot in w.missing), Unscored.NOT_FINITE)
    return Judgement(
        id=record.id, source=record.source, scores=_given(scores), missing=missing,
        rationales=first.rationales, overall=sum(overall) / len(overall) if overall else None,
        recommendation=verdicts[0][0] if agreed else None, domain_tag=first.domain_tag, brief=first.brief,
        replicate=first.replicate, judge=judge, notes=notes, spread=_given(spread), windows=len(windows),
    )  # fmt: skip


def _given(values: Floats) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in values)


def _notes(windows: Sequence[Judgement]) -> list[str]:
    return sorted({note for window in windows for note in window.notes})


@dataclass
class _Open:
    """A record of which not all windows are judged yet."""

    record: Record
    left: int
    found: dict[int, Judgement] = field(default_factory=dict)


class WindowedJudge(Judge):
    """A judge that sees long records in windows; each window is judged as a record of its own.

    Args:
        judge: Judges the windows.
        settings: Sizes, and how scores are taken together.
    """

    windowed = True

    def __init__(self, judge: Judge, settings: WindowSettings) -> None:
        self._judge, self._settings = judge, settings
        self.n_slots = judge.n_slots
        self.identity = hash_json([judge.identity, "windows", settings.model_dump(mode="json")])

    @property
    def failures(self) -> Failures | None:
        """Those of the judge, which counts windows."""
        return self._judge.failures

    @failures.setter
    def failures(self, failures: Failures | None) -> None:
        self._judge.failures = failures

    @property
    def client(self) -> Client | None:
        """The judge's client."""
        return self._judge.client

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        """Yield one judgement a task; of a record in windows, as soon as the last of them is judged."""
        opened: dict[tuple[str, str, int], _Open] = {}
        for judgement in self._judge.judge(self._pieces(tasks, opened)):
            id, mark, number = judgement.id.rpartition(MARK)
            key = (judgement.source, id, judgement.replicate)
            if not mark or key not in opened:
                yield replace(judgement, judge=self.identity, windows=1)
                continue
            record = opened[key]
            record.found[int(number)] = judgement
            record.left -= 1
            if not record.left:
                del opened[key]
                windows = [record.found[i] for i in sorted(record.found)]
                yield combine(record.record, windows, self._settings, self.identity)

    def requests(self, tasks: Iterable[JudgeTask]) -> Iterator[Request]:
        """Yield the requests of all windows."""
        return self._judge.requests(self._pieces(tasks, {}))

    def ids(self, source: str) -> Mapping[str, int]:
        """See `Judge.ids`."""
        return self._judge.ids(source)

    def _pieces(self, tasks: Iterable[JudgeTask], opened: dict[tuple[str, str, int], _Open]) -> Iterator[JudgeTask]:
        for task in tasks:
            windows = windows_of(task.record, self._settings)
            if len(windows) > 1:
                opened[task.record.source, task.record.id, task.replicate] = _Open(task.record, len(windows))
            else:
                windows = (task.record,)
            yield from (JudgeTask(window, task.replicate) for window in windows)
