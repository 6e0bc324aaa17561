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
    on_behalf_of: int | None,
    actor: str | None,
    api_key_id: int | None,
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
    equal = (
        (e.user_id, user_id),
        (e.on_behalf_of, on_behalf_of),
        (e.actor, actor),
        (e.api_key_id, api_key_id),
        (e.action, action),
        (e.entity, entity),
        (e.entity_id, entity_id),
        (e.request_id, request_id),
    )
    conditions: Sequence[ColumnElement[bool]] = [
        *(column == value for column, value in equal if value is not None),
        *([e.at >= since] if since is not None else []),
        *([e.at < until] if until is not None else []),
    ]
    columns = [AuditEntry.__table__.c[name] for name in AuditOut.__struct_fields__]
    statement = select(*columns).where(*conditions)
    return await page(db, statement, AuditOut, NEWEST_FIRST, limit=limit, cursor=cursor, into=AuditPage)
