"""Downloads in the audit log: who fetched which file, and when, to the minute.

Not by request: a program that reads a file in ranges, or somebody who means harm, makes thousands of them."""

from uuid import UUID

from sqlalchemy import text

from erp_service.access.principals import Principal
from erp_service.audit.record import record
from erp_service.db import locks
from erp_service.db.sessions import WriteSession
from erp_service.exports.service import File

_RECORDED = text("""
    select exists (
      select from audit_log where entity = 'export' and entity_id = :export_id and action = 'export.downloaded'
        and user_id = :user_id and actor is not distinct from cast(:actor as text)
        and api_key_id is not distinct from cast(:api_key_id as bigint)
        and at >= date_trunc('minute', clock_timestamp()))
""")


async def record_download(db: WriteSession, who: Principal, export_id: UUID, file: File) -> None:
    """Put on record that bytes of the file are sent, unless that is on record for this user, key and minute."""
    actor = None if who.actor is None else who.actor.name
    key_id = None if who.key is None else who.key.id
    of_this_minute = {"export_id": str(export_id), "user_id": who.user_id, "actor": actor, "api_key_id": key_id}
    if await db.scalar(_RECORDED, of_this_minute):
        return
    # of many ranges at once, one is the first of its minute
    await locks.take(db, locks.downloads_of(export_id, who.user_id or 0))
    if not await db.scalar(_RECORDED, of_this_minute):
        await record(db, who, "export.downloaded", export_id, on_behalf_of=file.owner)
