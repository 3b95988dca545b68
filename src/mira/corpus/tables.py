"""Rows of Parquet files and of Arrow files as Hugging Face datasets write them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mira.corpus.lines import Damaged, open_file

__all__ = ["batches", "opened", "python_rows", "schema"]

ROWS = 512


@contextmanager
def opened(path: str, kind: str) -> Iterator[Any]:
    """Open a "parquet" or "arrow" file with pyarrow's reader for it; Arrow as a stream or as a file.

    Raises:
        Damaged: pyarrow cannot make sense of the file, on opening or within the block.
        OSError: The file cannot be opened or read.
    """
    with open_file(path) as file:
        try:
            if kind == "parquet":
                yield pq.ParquetFile(file)
            elif file.read(6) == b"ARROW1":
                yield pa.ipc.open_file(file)
            else:
                file.seek(0)
                yield pa.ipc.open_stream(file)
        except (pa.ArrowException, EOFError) as error:
            raise _damaged(error) from None
        except OSError as error:
            # pyarrow's word for "ends early" is a bare OSError; those of the operating system have a number
            if type(error) is not OSError or error.errno is not None:
                raise
            raise _damaged(error) from None


def _damaged(error: Exception) -> Damaged:
    return Damaged(str(error).partition("\n")[0], 0)


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
    """Yield a file's rows in order, a few hundred at a time.

    Args:
        path: Local path or fsspec URL.
        kind: "parquet" or "arrow".
        columns: Columns to read; ones that are not there are left out. None reads all.

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
    there = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
    yield from file.iter_batches(batch_size=ROWS, columns=there)


def _arrow(file: Any, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    there = None if columns is None else [c for c in columns if c in file.schema.names]
    if isinstance(file, pa.RecordBatchFileReader):
        found: Iterator[pa.RecordBatch] = (file.get_batch(i) for i in range(file.num_record_batches))
    else:
        found = iter(file)
    for batch in found:
        chosen = batch if there is None else batch.select(there)
        for start in range(0, chosen.num_rows, ROWS):
            yield chosen.slice(start, ROWS)


def python_rows(batch: pa.RecordBatch) -> list[dict[str, Any] | UnicodeDecodeError]:
    """Return a batch's rows as dicts; a row with a string that is not UTF-8 as the error."""
    try:
        rows: list[dict[str, Any] | UnicodeDecodeError] = batch.to_pylist()
        return rows
    except UnicodeDecodeError:
        return [_python_row(batch.slice(i, 1)) for i in range(batch.num_rows)]


def _python_row(row: pa.RecordBatch) -> dict[str, Any] | UnicodeDecodeError:
    try:
        value: dict[str, Any] = row.to_pylist()[0]
        return value
    except UnicodeDecodeError as error:
        return error
