"""Attempts that are counted before a password is looked at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from erp_service.auth.login import limits
from erp_service.auth.login.context import LoginContext
from erp_service.auth.login.limits import Attempt
from erp_service.auth.login.networks import Networks
from erp_service.auth.queries import Account
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.db.sessions import AutocommitSession
from erp_service.web import rate_limits


@asynccontextmanager
async def counting(login: LoginContext) -> AsyncIterator[AutocommitSession]:
    """For attempts that must not be taken unless they are counted. Raises errors.Unavailable."""
    try:
        async with login.database.autocommit() as db:
            yield db
    except DATABASE_ERRORS as exc:
        raise rate_limits.uncounted() from exc


async def counted_attempt(login: LoginContext, account: Account, networks: Networks) -> Attempt:
    """Somebody who is signed in shows the password again: that counts as a log-in does, since the token may be stolen.

    Raises errors.TooMany, errors.Unavailable."""
    attempt = limits.attempt_on(account.email, networks, known=account.known_network)
    async with counting(login) as db:
        await limits.count(db, login.settings, attempt)
    return attempt
