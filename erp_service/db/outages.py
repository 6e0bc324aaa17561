"""Which errors mean that the database, or the way to it, is unavailable."""

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout


def is_outage(exc: BaseException) -> bool:
    """The database, or the way to it, was away: nothing is wrong with the export."""
    # the last of these is what asyncpg raises when it is cut off between two steps of one statement
    lost = PoolTimeout | ConnectionError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError
    if isinstance(exc, lost):
        return True
    if isinstance(exc, DBAPIError):
        cause = getattr(exc.orig, "__cause__", None)
        return exc.connection_invalidated or (cause is not None and is_outage(cause))
    # 25P03: it was idle in a transaction for too long, as after a pause of the process
    state = (exc.sqlstate or "") if isinstance(exc, asyncpg.PostgresError) else ""
    return state[:2] in ("08", "53", "57", "40") or state == "25P03"
