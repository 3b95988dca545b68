"""Batch files: requests out as OpenAI batch lines, results back into the journal.

The lines run with a provider's batch API and with `vllm run-batch -i FILE -o RESULTS`. Results go to the journal under
the same keys as live replies, so the judgements made of them are the same.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import orjson

from mira.errors import InputError
from mira.llm.answer import Failed
from mira.llm.journal.frames import KEY_BYTES
from mira.llm.journal.journal import FRAME_RECORDS, Entry, Journal
from mira.llm.request import CHAT, Request
from mira.llm.responses.reply import Reply, load_json
from mira.llm.responses.response import Rejected, verdict
from mira.llm.transport import Response
from mira.run_folder.files import atomic
from mira.unscored import Unscored

__all__ = ["Exported", "Imported", "export_batch", "import_batch", "outstanding"]

_MAX_LINES = 50_000
_MAX_BYTES = 190 << 20
_KEY_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to.

    Attributes:
        paths: The files, each small enough for a batch API (50,000 lines, 190 MB).
        requests: Lines in them.
        answered: Requests left out because the journal holds their replies.
        unsendable: Requests left out because the record does not fit the judge's context.
        keys: Keys of the requests in the files, 16 bytes each.
        removed: Further files of an earlier export of this name, which are gone now.
    """

    paths: tuple[Path, ...]
    requests: int
    answered: int
    unsendable: int
    keys: bytes = b""
    removed: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to.

    Attributes:
        replies: Replies that are new in the journal.
        known: Replies that it held already.
        failures: Requests that failed; they are asked again.
        unreadable: Lines without a result of this export: torn, or from another program.
    """

    replies: int
    known: int
    failures: int
    unreadable: int


def export_batch(requests: Iterable[Request], journal: Journal, path: Path) -> Exported:
    """Write the requests that the journal has no reply for as batch lines.

    Args:
        requests: What would be asked live: `EndpointJudge.requests(tasks)`.
        journal: The journal.
        path: The file. Where one is not enough, the second is called `<stem>-2<suffix>`, and so on.

    Raises:
        OSError: A file cannot be written; none is left half written.
    """
    answered = unsendable = 0
    seen: set[bytes] = set()

    def lines() -> Iterator[bytes]:
        nonlocal answered, unsendable
        stream = iter(requests)
        while chunk := list(islice(stream, FRAME_RECORDS)):
            known = journal.find({r.key for r in chunk if not r.unsendable})
            for request in chunk:
                if request.unsendable:
                    unsendable += 1
                elif request.key in known:
                    answered += 1
                elif request.key not in seen:
                    seen.add(request.key)
                    yield _line(request)

    paths = tuple(_write_parts(lines(), path))
    return Exported(
        paths, len(seen), answered, unsendable, b"".join(sorted(seen)), tuple(_remove_later(path, len(paths)))
    )


def outstanding(keys: bytes, journal: Journal) -> int:
    """Return how many of the requests in `Exported.keys` the journal has no reply for."""
    each = [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]
    return len(each) - journal.count(each)


def _line(request: Request) -> bytes:
    return orjson.dumps(
        {
            "custom_id": request.key.hex(),
            "method": "POST",
            "url": f"/v1{(request.form or CHAT).path}",
            "body": orjson.Fragment(request.body),
        }
    )


def _write_parts(lines: Iterator[bytes], path: Path) -> Iterator[Path]:
    line = next(lines, None)
    number = 1
    while line is not None or number == 1:
        part = path if number == 1 else _part(path, number)
        with atomic(part) as temporary, temporary.open("wb") as file:
            line = _fill(file, line, lines)
        yield part
        number += 1


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _remove_later(path: Path, last: int) -> Iterator[Path]:
    """Remove the parts of a longer export before this one: sent with the new ones they would be paid twice."""
    number = last + 1
    while (part := _part(path, number)).is_file():
        with part.open("rb") as file:
            ours = _is_request(file.readline())
        if not ours:
            return
        part.unlink()
        yield part
        number += 1


def _fill(file: BinaryIO, line: bytes | None, lines: Iterator[bytes]) -> bytes | None:
    """Write lines until the file is full; return the line that did not fit."""
    count = size = 0
    while line is not None and count < _MAX_LINES and (not count or size + len(line) < _MAX_BYTES):
        file.write(line + b"\n")
        count, size = count + 1, size + len(line) + 1
        line = next(lines, None)
    return line


def import_batch(paths: Path | str | Sequence[Path | str], journal: Journal) -> Imported:
    """Put batch results into the journal, in any order, some or all of them, with error lines among them.

    Args:
        paths: Result files, and error files if the API made any.
        journal: The journal.

    Raises:
        InputError: A file cannot be read, holds requests, or no line of it is a result of an exported request.
        RunError: The journal cannot be written.
    """
    several = [paths] if isinstance(paths, str | Path) else paths
    total = [0, 0, 0, 0]
    with ExitStack() as stack:
        for path in map(Path, several):
            try:
                file = stack.enter_context(path.open("rb"))
            except OSError as error:
                raise InputError(f"{path}: cannot read the batch results: {error.strerror}") from None
            counts = _import_file(file, journal, path)
            if counts[3] and not sum(counts[:3]):
                raise InputError(
                    f"{path}:1: no line is a batch result of a request that mira exported",
                    'A line: {"custom_id": "<32 hex digits>", "response": {"status_code": 200, "body": {...}}}.',
                )
            total = [a + b for a, b in zip(total, counts, strict=True)]
    return Imported(*total)


def _import_file(file: BinaryIO, journal: Journal, path: Path) -> list[int]:
    counts = [0, 0, 0, 0]
    lines = (line for line in file if line.strip())
    while chunk := list(islice(lines, FRAME_RECORDS)):
        if _is_request(chunk[0]):
            raise InputError(
                f"{path}: holds requests, not results",
                "Have them answered, by a batch API or vllm run-batch -i FILE -o RESULTS, and import RESULTS.",
            )
        results = [_result(line) for line in chunk]
        replies = {r[0]: r[1] for r in results if r and isinstance(r[1], Reply)}
        known = journal.find(replies)
        journal.append([Entry(key, "batch", reply) for key, reply in replies.items() if key not in known])
        failed = [r[1].line(r[0], "batch") for r in results if r and isinstance(r[1], Failed)]
        if failed:
            journal.fail(failed)
        counts[0] += len(replies) - len(known)
        counts[1] += len(known)
        counts[2] += len(failed)
        counts[3] += sum(r is None for r in results)
    return counts


def _is_request(line: bytes) -> bool:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and "body" in value and not {"response", "error"} & value.keys()


def _result(line: bytes) -> tuple[bytes, Reply | Failed] | None:
    """Return what a line says of which request, or None when it says nothing."""
    try:
        value = load_json(line)
        custom_id = value["custom_id"]
        key = bytes.fromhex(custom_id)
        if len(custom_id) != _KEY_DIGITS:
            return None
        response = value.get("response") or {}
        status, body = int(response.get("status_code") or 0), response.get("body")
        error = value.get("error")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    if not error and status == 200:
        said = verdict(Response(200, json.dumps(body).encode()))
    else:
        said = verdict(Response(status if status > 200 else 400, json.dumps({"error": error or body}).encode()))
    if isinstance(said, Reply):
        return key, said
    if isinstance(said, Rejected):
        return key, Failed(said.reason, said.detail, 1)
    return key, Failed(Unscored.ENDPOINT_ERROR, str(getattr(said, "detail", "too many requests")), 1)
