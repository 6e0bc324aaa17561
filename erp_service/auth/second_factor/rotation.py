"""Rotation of ERP_JWT_SECRET: secrets of second factors that were encrypted with an older one are encrypted anew, so
that nobody is locked out when it is removed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sqlalchemy import select, update

from erp_service import errors
from erp_service.auth.second_factor.encryption import SecretBox
from erp_service.auth.second_factor.models import SecondFactor
from erp_service.db.engine import Database
from erp_service.db.outages import DATABASE_ERRORS
from erp_service.observability import telemetry

EVERY_SECONDS = 3600.0
"""An hour after the start and each hour after that: not at once, since instances that are not restarted yet cannot read
what is encrypted with the newest secret."""


@contextlib.asynccontextmanager
async def renewing(database: Database, box: SecretBox, *, every: float = EVERY_SECONDS) -> AsyncIterator[None]:
    """Encrypts anew in the background, while there are several secrets. Instances may do it at the same time."""
    task = asyncio.create_task(_renew(database, box, every), name="second factors") if box.rotates else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _renew(database: Database, box: SecretBox, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        try:
            if renewed := await renew_all(database, box):
                telemetry.log.info("second factors encrypted with the newest secret", users=renewed)
        except DATABASE_ERRORS as exc:
            telemetry.log.warning("second factors not encrypted anew, trying later", error=exc)


async def renew_all(database: Database, box: SecretBox) -> int:
    """How many users' secrets were encrypted with an older secret. What no secret can decrypt stays as it is."""
    renewed = set()
    for column in (SecondFactor.secret, SecondFactor.pending_secret):
        async with database.read() as read:
            rows = await read.execute(select(SecondFactor.user_id, column.label("sealed")).where(column.is_not(None)))
        for user_id, sealed in rows:
            if not box.is_outdated(sealed):
                continue
            with contextlib.suppress(errors.Unavailable):
                values = {column.key: box.seal(box.open(sealed))}
                # race: another instance does the same, or the user has replaced it by now
                same = (SecondFactor.user_id == user_id, column == sealed)
                async with database.autocommit() as db:
                    await db.execute(update(SecondFactor).where(*same).values(values))
                renewed.add(user_id)
    return len(renewed)
