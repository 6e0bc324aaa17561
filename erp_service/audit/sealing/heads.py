"""Heads of the trail that are kept elsewhere. Whoever owns the database can cut off the end of the trail, or write all
of it anew without a fault; a head that they cannot reach shows both.

A head is written as one line: `position:link sealed_at`, the link in hexadecimal. What stands after the first blank is
for people."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
from msgspec import Struct

from erp_service.registry.proofs import MOST_ROWS, Finding, Judge, SlowProof
from erp_service.settings import Settings

_NAME = "trail heads"
_HOLDS = "the trail still has each head that was kept elsewhere"
_LINE = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})(\s.*)?", re.ASCII)
_AT_ONCE = 1_000


class KnownHead(Struct, frozen=True):
    """A position and the link that it had."""

    position: int
    link: bytes

    @classmethod
    def read(cls, line: str) -> "KnownHead | None":
        """None if it is none."""
        match = _LINE.fullmatch(line.strip())
        return None if match is None else cls(int(match[1]), bytes.fromhex(match[2]))

    def __str__(self) -> str:
        return f"{self.position}:{self.link.hex()}"


class NoHead(ValueError):
    """A text is neither a head nor a file of heads; the message says where."""


def heads_of(argument: str) -> Iterator[KnownHead]:
    """`argument` is a head, or the path of a file with one on each line, which is read line by line. Raises NoHead,
    OSError."""
    if (head := KnownHead.read(argument)) is not None:
        yield head
        return
    with Path(argument).open(encoding="utf-8", errors="replace") as lines:
        number = 0
        for number, line in enumerate(lines, 1):
            if (head := KnownHead.read(line)) is not None:
                yield head
            elif line.strip():
                raise NoHead(
                    f"{argument}, line {number}: {line.strip()[:80]!r} is no head, such as 4711:<64 hex digits>"
                )
        if not number:
            raise NoHead(f"{argument} is empty")


def head_proof(arguments: Iterable[str]) -> SlowProof:
    """The proof of what `heads_of` reads, whose errors its preparation raises."""

    async def prepare(db: asyncpg.Connection, _settings: Settings) -> Judge:
        rows: list[dict[str, Any]] = []
        total = 0
        heads = (head for argument in arguments for head in heads_of(argument))
        while batch := list(islice(heads, _AT_ONCE)):
            positions = [head.position for head in batch]
            links = dict(
                await db.fetch("select position, link from trail where position = any($1::bigint[])", positions)
            )
            for head in batch:
                if (actual := links.get(head.position)) != head.link:
                    total += 1
                    rows += [{"head": str(head), "fault": _GONE if actual is None else _OTHER}][: MOST_ROWS - len(rows)]
        finding = Finding(_NAME, _HOLDS, tuple(rows), total) if total else None

        async def judge(_db: asyncpg.Connection) -> Finding | None:
            return finding

        return judge

    return SlowProof(_NAME, _HOLDS, prepare)


_GONE = "there is no such position: the end of the trail was cut off, or this database is an older backup"
_OTHER = "that position has another link: the trail was written anew, or this is another database"
