"""Reads of the chain of seals."""

from sqlalchemy import Text, cast, func, select, text

from erp_service.audit.schemas import SealHead, SealOut, SealPage
from erp_service.audit.sealing.chain import START
from erp_service.audit.trail_models import TrailEntry
from erp_service.db.pagination import SortKey, SortOrder, page
from erp_service.db.sessions import Session
from erp_service.db.statements import Prepared

NEWEST_FIRST = SortOrder([SortKey(TrailEntry.position, "position", int)], descending=True)

_HEAD = Prepared(text("select position, encode(link, 'hex'), sealed_at from trail order by position desc limit 1"))


async def seals(db: Session, *, limit: int, cursor: str | None) -> SealPage:
    """One page of the positions, newest first."""
    t = TrailEntry
    statement = select(
        t.position,
        t.source,
        func.coalesce(cast(t.audit_id, Text), cast(t.row_ids, Text)),
        t.through,
        t.form,
        func.encode(t.digest, "hex"),
        func.encode(t.link, "hex"),
        t.sealed_at,
    )
    return await page(db, statement, SealOut, NEWEST_FIRST, limit=limit, cursor=cursor, into=SealPage)


async def head(db: Session) -> SealHead:
    """The last position; 0 and the link that the first one follows, if there is none."""
    row = (await db.execute(_HEAD)).one_or_none()
    return SealHead(0, START.hex(), None) if row is None else SealHead(*row)
