"""The statements that SQLAlchemy sends, their plans, and those that wait for a lock."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import Engine, event


class Statement(NamedTuple):
    text: str
    parameters: Any


@contextlib.contextmanager
def sent_statements() -> Iterator[list[Statement]]:
    """Every statement that any engine of this process sends inside, in order."""
    sent: list[Statement] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append(Statement(statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


Plans = Callable[[], Awaitable[str]]
"""The plans of every SELECT since the last call, as Postgres makes them now."""


@contextlib.contextmanager
def plans_of_statements(owner: asyncpg.Connection) -> Iterator[Plans]:
    with sent_statements() as sent:

        async def plans() -> str:
            lines = []
            for statement in sent:
                if statement.text.upper().startswith(("SELECT", "WITH")):
                    rows = await owner.fetch(f"explain {statement.text}", *statement.parameters)
                    lines += [row[0] for row in rows]
            sent.clear()
            return "\n".join(lines)

        yield plans


Waiting = Callable[[], Awaitable[int]]
"""How many statements of this database wait for a lock at this moment."""


def count_of_waiting(owner: asyncpg.Connection) -> Waiting:
    async def waiting() -> int:
        count: int = await owner.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return count

    return waiting
