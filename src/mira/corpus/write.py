"""Writing kept records in their input's own format, with a provenance field.

- JSONL: the line's own bytes, with `, "<field>": {...}` put in before the final brace; compressed as the input is.
  Byte order marks are left out and the last line gets a line break.
- Parquet: the kept rows with all their columns as they were, and a last column of strings that holds the provenance
  as JSON, so that its type is the same in every file.
- Arrow: as Parquet, but as the Arrow stream of a Hugging Face dataset. `state.json` and `dataset_info.json`, written
  once a source when all its shards are there, let `datasets.load_from_disk` load the folder.

Where the input's file is damaged, what can be read of it is written and the rest stays lost, as the index says.
"""

import bz2
import gzip
import io
import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mira.corpus.families import parse_json
from mira.corpus.files.lines import Damaged, read_lines
from mira.corpus.files.sniff import without_bom
from mira.corpus.files.tables import batches, bytes_of, opened, schema
from mira.corpus.shards import Format, Shard, format_of
from mira.errors import ConservationError, InputError
from mira.run_folder.files import atomic, write_json

__all__ = ["copy_kept", "count_kept", "describe_kept"]

Kept = Mapping[int, Mapping[str, Any]]

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_GROUP_BYTES = 2**26
_CODECS = {"SNAPPY": "snappy", "GZIP": "gzip", "ZSTD": "zstd", "BROTLI": "brotli", "LZ4": "lz4", "LZ4_RAW": "lz4"}
_DATASET_STATE: dict[str, Any] = {
    "_format_columns": None,
    "_format_kwargs": {},
    "_format_type": None,
    "_output_all_columns": False,
    "_split": None,
}


def copy_kept(shard: Shard, kept: Kept, folder: Path, *, field: str, longest: int) -> Path | None:
    """Write a shard's kept records to `<folder>/<shard.name><extension>`, atomically.

    Args:
        shard: The shard.
        kept: Row -> what its provenance field holds. May be empty: then the file holds no record.
        folder: Where to write; the file is replaced if it is there.
        field: Name of the provenance field.
        longest: Bytes of the longest line that counts as a record.

    Returns:
        The file's path; None for a table so damaged that it has no columns, from which nothing was kept.

    Raises:
        InputError: A kept record has a field of the provenance field's name already.
        ConservationError: The file no longer has all the kept rows.
        RunError: The file has changed since the shard was found. Nothing is written.
    """
    fmt = format_of(shard.path)
    target = folder / f"{shard.name}{fmt.extension}"
    shard.check_unchanged()
    try:
        with atomic(target) as temporary:
            written = _copy(shard, kept, temporary, field, longest)
            shard.check_unchanged()
            _check_all(shard, kept, written)
    except pa.ArrowException as error:
        raise _not_copied(shard, error) from None
    except Damaged:
        _check_all(shard, kept, 0)
        target.unlink(missing_ok=True)
        return None
    return target


def count_kept(path: Path) -> int:
    """Count the records that are in a file that `copy_kept` wrote.

    Raises:
        ConservationError: The file cannot be read to its end.
    """
    fmt = format_of(path.name)
    try:
        if fmt.kind == "jsonl":
            return sum(1 for _ in read_lines(str(path), fmt.compression, None, None, 2**62))
        return sum(batch.num_rows for batch in batches(str(path), fmt.kind))
    except (Damaged, OSError) as error:
        raise ConservationError(f"{path}: cannot be read back: {error}", "Run again: mira select --force") from None


def _check_all(shard: Shard, kept: Kept, written: int) -> None:
    if written != len(kept):
        raise ConservationError(
            f"{shard.path}: {written:,} of {len(kept):,} kept rows are in it",
            "It has changed since it was scored: run again. If it has not, a column that mira does not read otherwise "
            "is damaged: replace the file, or set select.write_selected to false.",
        )


def _copy(shard: Shard, kept: Kept, target: Path, field: str, longest: int) -> int:
    match format_of(shard.path).kind:
        case "parquet":
            return _copy_parquet(shard, kept, target, field)
        case "arrow":
            return _copy_arrow(shard, kept, target, field)
        case _:
            return _copy_lines(shard, kept, target, field, longest)


def _copy_lines(shard: Shard, kept: Kept, target: Path, field: str, longest: int) -> int:
    fmt = format_of(shard.path)
    written, last = 0, max(kept, default=-1)
    lines = read_lines(shard.path, fmt.compression, shard.start, shard.stop, longest)
    with ExitStack() as stack:
        out = _compressed(stack, target, fmt)
        for row, line in _until_damage(lines):
            if row > last:
                break
            if row in kept and isinstance(line, bytes):
                out.write(_spliced(line, field, kept[row], shard, row))
                written += 1
    return written


def _until_damage(lines: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from lines
    except Damaged:
        return


def _compressed(stack: ExitStack, target: Path, fmt: Format) -> IO[bytes]:
    if fmt.compression == "xz":
        return cast(IO[bytes], stack.enter_context(lzma.open(target, "wb")))
    if fmt.compression == "bz2":
        return cast(IO[bytes], stack.enter_context(bz2.open(target, "wb")))
    file = stack.enter_context(target.open("wb"))
    if fmt.compression == "gz":
        zipped = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0))
        return cast(IO[bytes], stack.enter_context(io.BufferedWriter(zipped, 2**18)))
    if fmt.compression == "zst":
        context = zstandard.ZstdCompressor(level=3, write_checksum=True)
        return cast(IO[bytes], stack.enter_context(context.stream_writer(file, closefd=False)))
    return file


def _spliced(line: bytes, field: str, provenance: Mapping[str, Any], shard: Shard, row: int) -> bytes:
    key = orjson.dumps(field)
    # the key is in the line as it is, or written with escapes: of letters and digits only by \u; else parsing can wait
    suspect = key in line or b"\\u" in line or not _PLAIN_NAME.fullmatch(field)
    if suspect and field in parse_json(line):
        raise _taken(shard.where(row), field)
    line = without_bom(line)
    bare = line.rstrip()
    end = line[len(bare) :] if line.endswith(b"\n") else b"\n"
    return b"".join((bare[:-1], b", ", key, b": ", orjson.dumps(provenance, option=_OPTIONS), bare[-1:], end))


def _taken(where: str, field: str) -> InputError:
    return InputError(
        f"{where}: the record has a field '{field}' already",
        "Set select.provenance_field to a name that no record has.",
    )


def _with_provenance(shard: Shard, kind: str, field: str) -> pa.Schema:
    """Return the schema of the copy: the input's and the provenance column, known to `datasets` too."""
    old = schema(shard.path, kind)
    if field in old.names:
        raise _taken(shard.path, field)
    metadata = dict(old.metadata or {})
    described = _object(metadata.get(b"huggingface", b""))
    if isinstance(described.get("info"), dict):
        _add_feature(described["info"], field)
        metadata[b"huggingface"] = orjson.dumps(described)
    return old.append(pa.field(field, pa.string())).with_metadata(metadata)


def _description(path: Path) -> dict[str, Any]:
    """Read what stands beside a data set's files; {} where it is missing or is not JSON of that form."""
    try:
        return _object(path.read_bytes())
    except OSError:
        return {}


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _add_feature(info: dict[str, Any], field: str) -> None:
    if isinstance(info.get("features"), dict):
        info["features"][field] = {"dtype": "string", "_type": "Value"}


def _kept_batches(shard: Shard, kind: str, kept: Kept, out: pa.Schema) -> Iterator[pa.RecordBatch]:
    start = 0
    try:
        for batch in batches(shard.path, kind):
            rows = [i for i in range(batch.num_rows) if start + i in kept]
            if rows:
                values = [orjson.dumps(kept[start + i], option=_OPTIONS).decode() for i in rows]
                columns = [*_taken_rows(batch, rows, shard).columns, pa.array(values, pa.string())]
                yield pa.RecordBatch.from_arrays(columns, schema=out)
            start += batch.num_rows
    except Damaged:
        return


def _taken_rows(batch: pa.RecordBatch, rows: list[int], shard: Shard) -> pa.RecordBatch:
    """Return some rows of a batch, whatever their types."""
    try:
        return batch.take(pa.array(rows, pa.int64()))
    except pa.ArrowNotImplementedError:
        pass  # `take` has no kernel for views of strings, and `concat_batches` has for all
    try:
        return pa.concat_batches([batch.slice(row, 1) for row in rows])
    except pa.ArrowException as error:
        raise _not_copied(shard, error) from None


def _not_copied(shard: Shard, error: Exception) -> InputError:
    said = str(error).partition("\n")[0]
    return InputError(
        f"{shard.path}: its rows cannot be copied: {said}",
        "Write the file again without that column type, or set select.write_selected to false.",
    )


def _copy_parquet(shard: Shard, kept: Kept, target: Path, field: str) -> int:
    out = _with_provenance(shard, "parquet", field)
    with opened(shard.path, "parquet") as file:
        groups = file.metadata
        compression = groups.row_group(0).column(0).compression if groups.num_row_groups else "ZSTD"
    written, held, size = 0, [], 0
    with pq.ParquetWriter(target, out, compression=_CODECS.get(compression, "none")) as writer:
        for batch in _kept_batches(shard, "parquet", kept, out):
            held.append(batch)
            written, size = written + batch.num_rows, size + bytes_of(batch)
            if size >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, out))
                held, size = [], 0
        if held:
            writer.write_table(pa.Table.from_batches(held, out))
    return written


def _copy_arrow(shard: Shard, kept: Kept, target: Path, field: str) -> int:
    out = _with_provenance(shard, "arrow", field)
    written = 0
    with target.open("wb") as file, pa.ipc.new_stream(file, out) as writer:
        for batch in _kept_batches(shard, "arrow", kept, out):
            writer.write_batch(batch)
            written += batch.num_rows
    return written


def describe_kept(found: Sequence[Shard], folder: Path, field: str) -> None:
    """Write what `datasets.load_from_disk` needs beside a source's kept records; nothing where none are Arrow files.

    Args:
        found: All shards of the source.
        folder: Where their kept records are.
        field: Name of the provenance field, which is a further column.
    """
    arrow = [s for s in found if format_of(s.path).kind == "arrow"]
    if not arrow:
        return
    beside = Path(arrow[0].path).parent
    info, state = _description(beside / "dataset_info.json"), _description(beside / "state.json")
    _add_feature(info, field)
    for stale in ("splits", "download_size", "dataset_size", "size_in_bytes", "download_checksums"):
        info.pop(stale, None)
    state |= {
        "_data_files": [{"filename": f"{s.name}{format_of(s.path).extension}"} for s in arrow],
        "_fingerprint": None,  # of the input; without one, datasets makes a new one
    }
    write_json(folder / "dataset_info.json", info)
    write_json(folder / "state.json", _DATASET_STATE | state)
