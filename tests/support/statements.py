"""The statements that sessions send, their plans, and those that wait for a lock."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import asyncpg
import pytest

from erp_service.db.sessions import Session, WriteSession


class Statement(NamedTuple):
    text: str
    parameters: Any


@contextlib.contextmanager
def noting_statements(note: Callable[[Statement], None], *, in_transactions: bool = False) -> Iterator[None]:
    """Calls `note` with every statement that any session of this process sends inside, in order; or only with those in
    transactions. Those that begin and end a transaction do not count."""

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        async def noted(session: Session, text: str, *arguments: Any) -> Any:
            if isinstance(session, WriteSession) or not in_transactions:
                note(Statement(text, arguments))
            return await method(session, text, *arguments)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fetch", "fetch_value", "run"):
            patch.setattr(Session, name, noting(getattr(Session, name)))
        yield


@contextlib.contextmanager
def sent_statements(*, in_transactions: bool = False) -> Iterator[list[Statement]]:
    """The same as a list that grows."""
    sent: list[Statement] = []
    with noting_statements(sent.append, in_transactions=in_transactions):
        yield sent


Plans = Callable[..., Awaitable[str]]
"""The plans of every SELECT since the last call, as Postgres makes them now; with the options of EXPLAIN."""


@contextlib.contextmanager
def plans_of_statements(owner: asyncpg.Connection) -> Iterator[Plans]:
    with sent_statements() as sent:

        async def plans(options: str = "costs") -> str:
            lines = []
            for statement in sent:
                if statement.text.upper().startswith(("SELECT", "WITH")):
                    rows = await owner.fetch(f"explain ({options}) {statement.text}", *statement.parameters)
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
