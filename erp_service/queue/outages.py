"""Which errors of psycopg, and of Procrastinate over it, mean that the database is unavailable.

Here and not in db/outages.py, which processes load that have no psycopg."""

import psycopg
from procrastinate import exceptions

from erp_service.db import outages

PSYCOPG_ERRORS = (psycopg.Error, OSError)
"""Everything that psycopg can raise, for `except` around code that uses nothing else."""


def is_server_left(exc: psycopg.Error) -> bool:
    """The same as `outages.is_server_left`: no connection to this server must be used any more."""
    is_lost = isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError) and exc.sqlstate is None
    return is_lost or outages.is_server_left(exc)


def is_unavailable(exc: BaseException) -> bool:
    """The same as `outages.is_unavailable`. Procrastinate wraps what psycopg raises in its ConnectorException."""
    error = exc.__cause__ if isinstance(exc, exceptions.ConnectorException) else exc
    # These two are all that psycopg raises for a lost connection, mostly without an SQLSTATE. A server that has been
    # demoted, or that ended a transaction which was idle for too long, is an InternalError of psycopg.
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return True
    if isinstance(error, psycopg.Error):
        return outages.state_is_unavailable(outages.sqlstate_of(error))
    return error is not None and outages.is_unavailable(error)
