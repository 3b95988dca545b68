"""Rows of Parquet files and of Arrow files as Hugging Face datasets write them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mira.corpus.files.lines import BLOCK, Damaged, TooLong, is_remote, open_file
from mira.corpus.files.sniff import what_it_is

__all__ = ["Row", "batches", "bytes_of", "opened", "python_rows", "schema"]

ROWS = 512
_BATCH_BYTES = 2**25

_NO_VALUE = (ValueError, OverflowError, LookupError, pa.ArrowException)  # what pyarrow raises for one, or for its zone

Row = dict[str, Any] | ValueError | TooLong
"""A row's values, why they cannot be read (`UnicodeDecodeError` where a string is not UTF-8), or how long it is."""


@contextmanager
def opened(path: str, kind: str) -> Iterator[Any]:
    """Open a "parquet" or "arrow" file with pyarrow's reader for it; Arrow as a stream or as a file.

    Raises:
        Damaged: pyarrow cannot make sense of the file, on opening or within the block.
        OSError: The file cannot be opened or read.
    """
    # a mapped file is read as far as rows are asked for, while a batch of an Arrow file has no bound
    mapped = kind == "arrow" and not is_remote(path) and Path(path).stat().st_size > 0
    with pa.memory_map(path) if mapped else open_file(path) as file:
        try:
            if kind == "parquet":
                yield pq.ParquetFile(file, pre_buffer=False, buffer_size=BLOCK)
            elif file.read(6) == b"ARROW1":
                yield pa.ipc.open_file(file)
            else:
                file.seek(0)
                yield pa.ipc.open_stream(file)
        except (pa.ArrowException, EOFError) as error:
            raise _damaged(error, path, kind) from None
        except OSError as error:
            # pyarrow's word for "ends early" is a bare OSError; those of the operating system have a number
            if type(error) is not OSError or error.errno is not None:
                raise
            raise _damaged(error, path, kind) from None


def _damaged(error: Exception, path: str, kind: str) -> Damaged:
    with open_file(path) as file:
        found = what_it_is(file.read(BLOCK))
    instead = f"; the file is {found}" if found and kind.capitalize() not in found else ""
    return Damaged(str(error).partition("\n")[0] + instead, 0)


def schema(path: str, kind: str) -> pa.Schema:
    """Return the schema of a file.

    Args:
        path: Local path or fsspec URL.
        kind: "parquet" or "arrow".

    Raises:
        Damaged: The file has no readable schema.
        OSError: The file cannot be opened.
    """
    with opened(path, kind) as file:
        return file.schema_arrow if kind == "parquet" else file.schema


def batches(path: str, kind: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield a file's rows in order, a few hundred at a time, and less where they have more than some 32 MiB.

    Args:
        path: Local path or fsspec URL.
        kind: "parquet" or "arrow".
        columns: Columns to read; "a.b" is the field b of a column a. Ones that are not there are left out. None reads
            all.

    Raises:
        Damaged: The file ends early or is damaged; what could be read was yielded before. The exception's second
            argument is the number of rows read.
        OSError: The file cannot be opened.
    """
    n = 0
    try:
        with opened(path, kind) as file:
            for batch in _parquet(file, columns) if kind == "parquet" else _arrow(file, columns):
                n += batch.num_rows
                yield batch
    except Damaged as damage:
        raise Damaged(damage.args[0], n) from None


def _parquet(file: pq.ParquetFile, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    there = None if columns is None else _paths(file.schema_arrow, columns)
    for group in range(file.metadata.num_row_groups):
        rows = _rows_at_once(file.metadata.row_group(group), there)
        yield from file.iter_batches(batch_size=rows, row_groups=[group], columns=there)


def _rows_at_once(group: Any, columns: list[str] | None) -> int:
    """Return how many rows of a row group have some 32 MiB, as far as its metadata tell."""
    size: int = 0
    rows: int = group.num_rows
    for i in range(group.num_columns):
        column = group.column(i)
        path = column.path_in_schema
        if columns is None or any(path == c or path.startswith(f"{c}.") for c in columns):
            size += column.total_uncompressed_size
    return max(1, min(ROWS, _BATCH_BYTES * rows // max(size, 1)))


def _paths(schema: pa.Schema, columns: list[str]) -> list[str]:
    """Return what to read of what is asked for: of a struct only the fields that are, where they are fields of it."""
    heads = _heads(schema, columns)
    return [c if c in schema.names or _has_leaf(schema, c) else c.partition(".")[0] for c in columns if c in heads]


def _heads(schema: pa.Schema, columns: list[str]) -> dict[str, str]:
    """Return the column that each path starts with; paths that lead nowhere are left out."""
    found = {c: c if c in schema.names else c.partition(".")[0] for c in columns}
    return {path: head for path, head in found.items() if head in schema.names}


def _has_leaf(inside: pa.Schema | pa.StructType, path: str) -> bool:
    head, _, rest = path.partition(".")
    at = inside.get_field_index(head)
    if at < 0:
        return False
    kind = inside.field(at).type
    return not rest or (pa.types.is_struct(kind) and _has_leaf(kind, rest))


def _arrow(file: Any, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    heads = None if columns is None else set(_heads(file.schema, columns).values())
    there = [i for i, name in enumerate(file.schema.names) if heads is None or name in heads]
    if isinstance(file, pa.RecordBatchFileReader):
        found: Iterator[pa.RecordBatch] = (file.get_batch(i) for i in range(file.num_record_batches))
    else:
        found = iter(file)
    for batch in found:
        chosen = batch.select(there)
        rows = max(1, min(ROWS, _BATCH_BYTES * chosen.num_rows // max(bytes_of(chosen), 1)))
        for start in range(0, chosen.num_rows, rows):
            yield chosen.slice(start, rows)


def bytes_of(batch: pa.RecordBatch) -> int:
    """Return the bytes of a batch, or of what it is a slice of where that is all that can be known."""
    try:
        size: int = batch.nbytes
    except pa.ArrowNotImplementedError:  # of slices of views
        size = batch.get_total_buffer_size()
    return size


def python_rows(batch: pa.RecordBatch, longest: int) -> list[Row]:
    """Return a batch's rows as dicts, maps too; a row that cannot be read as the error.

    Args:
        batch: The rows.
        longest: Bytes that a row may have; of a longer one its number of bytes is returned.
    """
    if bytes_of(batch) <= longest:
        try:
            rows: list[Row] = batch.to_pylist(maps_as_pydicts="lossy")
            return rows
        except _NO_VALUE:
            pass  # at least one row has what Python has no value for
    return [_python_row(batch.slice(i, 1), longest) for i in range(batch.num_rows)]


def _python_row(row: pa.RecordBatch, longest: int) -> Row:
    if (size := bytes_of(row)) > longest:
        return TooLong(size)
    try:
        return _only(row)
    except UnicodeDecodeError as error:
        return error
    except _NO_VALUE:
        return _with_numbers(row)


def _with_numbers(row: pa.RecordBatch) -> Row:
    """Return a row with plain numbers for nanoseconds, years beyond 9999, unknown time zones: they are not text."""
    try:
        plain = [c if (kind := _numbers(c.type)) == c.type else c.view(kind) for c in row.columns]
        return _only(pa.RecordBatch.from_arrays(plain, row.schema.names))
    except UnicodeDecodeError as error:
        return error
    except _NO_VALUE as error:
        return ValueError(str(error))


def _only(row: pa.RecordBatch) -> dict[str, Any]:
    value: dict[str, Any] = row.to_pylist(maps_as_pydicts="lossy")[0]
    return value


def _numbers(kind: pa.DataType) -> pa.DataType:
    """Return a type with whole numbers in place of dates, times and durations, at any depth."""
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_numbers(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_numbers(kind.key_type), _numbers(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_numbers(kind.value_type), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_numbers(kind.value_type))
    return pa.large_list(_numbers(kind.value_type)) if pa.types.is_large_list(kind) else kind
