"""Reads of the audit log."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, select

from erp_service.audit.models import AuditEntry
from erp_service.audit.schemas import AuditOut, AuditPage
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import ReadSession

NEWEST_FIRST = SortOrder([SortKey(AuditEntry.id, "id", int)], descending=True)


async def entries(
    db: ReadSession,
    *,
    user_id: int | None,
    action: str | None,
    entity: str | None,
    entity_id: str | None,
    request_id: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
) -> AuditPage:
    """One page of the entries that match, newest first. `since` is inclusive, `until` exclusive."""
    e = AuditEntry
    equal = ((e.user_id, user_id), (e.action, action), (e.entity, entity), (e.entity_id, entity_id))
    conditions: Sequence[ColumnElement[bool]] = [
        *(column == value for column, value in (*equal, (e.request_id, request_id)) if value is not None),
        *([e.at >= since] if since is not None else []),
        *([e.at < until] if until is not None else []),
    ]
    statement = select(
        e.id, e.at, e.user_id, e.action, e.entity, e.entity_id, e.before, e.after, e.reason, e.request_id, e.address
    ).where(*conditions)
    return await page(db, statement, AuditOut, NEWEST_FIRST, limit=limit, cursor=cursor, into=AuditPage)
