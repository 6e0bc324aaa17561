"""Parquet: Arrow reads the CSV that Postgres writes into columns of the right types, and writes them in row groups.

Decimals have the precision and scale of their column, times are microseconds in UTC, ids are 64-bit integers, flags are
booleans; uuids and JSON are strings, which every reader shows unchanged. Null is null, and an empty text is an empty
text. A value that does not fit its type fails the export; none is rounded or cut. The metadata of each column is its
description; that of the file are its dataset and the time of its snapshot. Data pages are compressed with zstd.

Memory stays within 192 MiB above the process's idle size, Arrow's own libraries included, at any number of rows.

Needs the extra `parquet`. Arrow runs in one thread at a time, between two pieces of the COPY. So a slow store or a slow
Arrow makes Postgres wait, a failure of either ends the COPY, and a cancelled export leaves no thread behind."""

import asyncio
import importlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from erp_service.exports.formats.base import About, Format, Options, Write
from erp_service.exports.formats.text_values import text_select_list
from erp_service.registry.datasets import Column

BLOCK = 1024 * 1024
"""Bytes of CSV that Arrow reads at once."""

GROUP = 16 * 1024 * 1024
"""Bytes of a row group in Arrow's memory, about 70,000 movements: large enough to be read fast."""


class _Pieces(io.RawIOBase):
    """Keeps what Arrow writes until `take`."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


class ParquetEncoder:
    def __init__(
        self,
        columns: Sequence[Column],
        _options: Options,
        write: Write,
        about: About,
        *,
        block_bytes: int = BLOCK,
        group_bytes: int = GROUP,
    ) -> None:
        self._columns, self._write, self._about = columns, write, about
        self._block_bytes, self._group_bytes = block_bytes, group_bytes
        self._buffer = bytearray()
        self._rest = b""
        self._tables: list[Any] = []
        self._group_size = self._rows = 0
        self._file = _Pieces()

    async def begin(self) -> None:
        # the libraries are loaded here and not at the start of the process, which may never need them
        await self._write(await asyncio.to_thread(self._open))

    async def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= self._block_bytes:
            block, self._buffer = self._buffer, bytearray()
            await self._put(await asyncio.to_thread(self._read, block))

    async def finish(self, rows: int) -> None:
        await self._put(await asyncio.to_thread(self._read, self._buffer))
        await self._put(await asyncio.to_thread(self._close, rows))

    async def _put(self, data: bytes) -> None:
        if data:
            await self._write(data)

    def _open(self) -> bytes:
        self._pa = importlib.import_module("pyarrow")
        self._csv = importlib.import_module("pyarrow.csv")
        parquet = importlib.import_module("pyarrow.parquet")
        self._schema = schema(self._columns, self._about)
        self._writer = parquet.ParquetWriter(self._file, self._schema, compression="zstd", compression_level=3)
        return self._file.take()

    def _read(self, block: bytearray) -> bytes:
        data = self._rest + block
        end = end_of_rows(data)
        self._rest = data[end:]
        if end:
            table = self._table(data[:end])
            self._tables.append(table)
            self._group_size += table.nbytes
            self._rows += table.num_rows
        if self._group_size >= self._group_bytes:
            self._write_group()
        return self._file.take()

    def _table(self, rows: bytes) -> Any:
        # the header protects the first value: a byte order mark at the very start of the data would be dropped
        names = ",".join(self._schema.names).encode() + b"\n"
        table = self._csv.read_csv(
            self._pa.BufferReader(names + rows),
            # in this thread only: others need the processors too, and Arrow's threads would outlive the export
            read_options=self._csv.ReadOptions(use_threads=False, block_size=len(names) + len(rows) + 1),
            parse_options=self._csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=self._csv.ConvertOptions(
                column_types={field.name: field.type for field in self._schema},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["true"],
                false_values=["false"],
            ),
        )
        # reading checks only the digits of the text: 12345 would pass as a decimal of precision 6 and scale 3
        table.validate(full=True)
        return table

    def _write_group(self) -> None:
        group = self._pa.concat_tables(self._tables).cast(self._schema)
        self._tables, self._group_size = [], 0
        self._writer.write_table(group, row_group_size=max(group.num_rows, 1))

    def _close(self, rows: int) -> bytes:
        if self._rest or self._rows != rows:
            raise RuntimeError(f"{self._rows} rows arrived of the {rows} that the server copied")
        if self._tables:
            self._write_group()
        self._writer.close()
        self._pa.default_memory_pool().release_unused()
        return self._file.take()


def schema(columns: Sequence[Column], about: About) -> Any:
    """The columns and the metadata of the file, as a `pyarrow.Schema`."""
    pa = importlib.import_module("pyarrow")
    types = {
        "integer": pa.int64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "uuid": pa.string(),
        "json": pa.string(),
    }
    fields = [
        pa.field(
            column.name,
            pa.decimal128(*column.digits) if column.type == "decimal" else types[column.type],
            metadata={"description": column.description},
        )
        for column in columns
    ]
    metadata = {
        "dataset": about.dataset,
        "description": about.description,
        "snapshot_at": about.snapshot_at.isoformat(),
    }
    return pa.schema(fields, metadata=metadata)


def end_of_rows(data: bytes) -> int:
    """The end of the last complete row of CSV in the data, which must begin with a row; 0 if no row is complete.

    Every quote within a value is doubled, so a line end is inside a value if and only if the number of quotes before it
    is odd."""
    quotes = data.count(b'"')
    end = len(data)
    while (line_end := data.rfind(b"\n", 0, end)) >= 0:
        quotes -= data.count(b'"', line_end, end)
        if quotes % 2 == 0:
            return line_end + 1
        end = line_end
    return 0


def _copy(_options: Options) -> Mapping[str, str]:
    return {"format": "csv", "encoding": "UTF8"}


PARQUET = Format(
    name="parquet",
    media_type="application/vnd.apache.parquet",
    extension="parquet",
    select=text_select_list,
    copy=_copy,
    encoder=ParquetEncoder,
    needs="pyarrow",
)
