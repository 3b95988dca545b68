"""A judge of recorded replies: a teacher that answered earlier, put behind the seam of every judge."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from mira.errors import InputError
from mira.judging.grammar.reply import parse_reply
from mira.judging.judge import Judge, JudgeTask
from mira.llm.responses.finish import Ending, ending
from mira.rubric.judgement import Judgement
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_file, hash_json
from mira.unscored import Unscored

__all__ = ["RecordedJudge"]

_EXAMPLE = 'Each line is {"id": "...", "source": "...", "replicate": 0, "reply": "[A1] ..."}; "group" is optional.'


_NO_REPLY = {Ending.FAILED: Unscored.ENDPOINT_ERROR, Ending.REFUSED: Unscored.REFUSED}


class _Place(NamedTuple):
    """Where a reply's line stands, and the digest of the reply."""

    file: int
    line: int
    offset: int
    length: int
    digest: bytes


class RecordedJudge(Judge):
    """Turns recorded replies into judgements, through the same parser as a live judge's.

    A recording is JSONL, one reply a line: `id`, `source`, `reply`; optionally `replicate` (0), `group` (the group's
    name or its letter; lines of other groups are passed over) and `finish_reason` ("length" marks a reply that ended
    at its token limit). Only the lines' places are held in memory.
    """

    def __init__(self, paths: Path | str | Sequence[Path | str], rubric: Rubric) -> None:
        """Read the recording's places.

        Args:
            paths: One file, or several that together are one recording.
            rubric: The rubric that was judged on.

        Raises:
            InputError: A file cannot be read, a line is no recorded reply, or two lines hold different replies for
                the same record and replicate.
        """
        several = [paths] if isinstance(paths, str | Path) else paths
        self._paths = [Path(path) for path in several]
        self._names = tuple(anchor.name for anchor in rubric.anchors)
        self._groups = {"", rubric.group, rubric.group.rpartition("group_")[2]}
        self._places: dict[str, dict[str, dict[int, _Place]]] = {}
        for file, path in enumerate(self._paths):
            try:
                self._index(file, path)
            except OSError as error:
                raise InputError(
                    f"{path}: cannot read the recorded replies: {error.strerror}", "Point to a JSONL file of replies."
                ) from None
        self.n_slots = len(rubric.anchors)
        self.identity = hash_json(["recorded", rubric.hash, sorted(hash_file(path) for path in self._paths)])

    @property
    def sources(self) -> list[str]:
        """Sources that the recording holds replies for, sorted."""
        return sorted(self._places)

    def ids(self, source: str) -> dict[str, int]:
        """Return record id -> number of recorded replicates, in order of id."""
        return {id: len(replicates) for id, replicates in sorted(self._places.get(source, {}).items())}

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        """Yield one judgement a task, in order; `not_recorded` where the recording holds no reply."""
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")) for path in self._paths]
            for record, replicate in tasks:
                place = self._places.get(record.source, {}).get(record.id, {}).get(replicate)
                if place is None:
                    yield Judgement.unscored(
                        record.id, record.source, self.n_slots, Unscored.NOT_RECORDED,
                        replicate=replicate, judge=self.identity,
                    )  # fmt: skip
                    continue
                line = orjson.loads(os.pread(files[place.file].fileno(), place.length, place.offset))
                end = ending(str(line.get("finish_reason") or ""))
                if end in _NO_REPLY:
                    yield Judgement.unscored(
                        record.id, record.source, self.n_slots, _NO_REPLY[end],
                        replicate=replicate, judge=self.identity,
                    )  # fmt: skip
                    continue
                parsed = parse_reply(line["reply"], self._names, truncated=end is Ending.CUT)
                yield parsed.judgement(record.id, record.source, replicate=replicate, judge=self.identity)

    def _index(self, file: int, path: Path) -> None:
        offset = 0
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    self._add(_Place(file, number, offset, len(line), b""), _line(line, f"{path}:{number}"))
                offset += len(line)

    def _add(self, place: _Place, line: dict[str, Any]) -> None:
        if line["group"] not in self._groups:
            return
        digest = blake2b(line["reply"].encode("utf-8", "surrogatepass"), digest_size=8).digest()
        replicates = self._places.setdefault(line["source"], {}).setdefault(line["id"], {})
        earlier = replicates.setdefault(line["replicate"], place._replace(digest=digest))
        if earlier.digest != digest:
            raise InputError(
                f"{self._paths[place.file]}:{place.line}: a second, different reply for record '{line['id']}' of "
                f"source '{line['source']}', replicate {line['replicate']}; the first is at "
                f"{self._paths[earlier.file]}:{earlier.line}",
                "Remove one of the two, or give the second its own replicate number.",
            )


def _line(data: bytes, where: str) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON: {error}", _EXAMPLE) from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: not a JSON object", _EXAMPLE)
    value = {"replicate": 0, "group": "", **value}
    for field, kind in (("id", str), ("source", str), ("reply", str), ("group", str), ("replicate", int)):
        if field not in value:
            raise InputError(f"{where}: field '{field}' is missing", _EXAMPLE)
        if type(value[field]) is not kind:
            wanted = "a string" if kind is str else "a whole number"
            raise InputError(f"{where}: field '{field}' is not {wanted}", _EXAMPLE)
    if value["replicate"] < 0:
        raise InputError(f"{where}: field 'replicate' is negative", _EXAMPLE)
    return value
