"""What callers may do while no primary can be reached, for routes that only read through `Database.reading`.

An instance usually knows it from its caches, which count while notifications prove that nothing was changed, or asks
the primary. Without a primary neither is possible, and everything is refused but these routes: for them it is looked up
on a replica, each time. ops/security.md says what that means for an attacker, db/replicas/without_leader.py what a
replica must have:

- nothing is withdrawn while nobody leads, and what was withdrawn before, and acknowledged with synchronous replication,
  is on a standby. The one that has most is asked, once it shows all that it has;
- an instance that is cut off together with a stale standby, while another server leads elsewhere, would not learn of
  what is withdrawn there. So this ends ERP_READ_WITHOUT_PRIMARY_SECONDS after it has reached a primary last;
- tokens expire by this machine's clock, as always, and so do keys, by that of the standby too."""

from uuid import UUID

import msgspec

from erp_service.access.keys import KeyCache
from erp_service.access.principals import AuthorityCache
from erp_service.access.revocations import Revocations
from erp_service.auth.authority.loader import AuthorityLoader, KeyLoader, RevocationLoader
from erp_service.auth.credentials import Access
from erp_service.db.engine import Database
from erp_service.db.notifications import NotificationListener


def access_without_primary(access: Access, database: Database, url: str) -> Access:
    """The same as `access`, but asks the replica. It keeps nothing of what it is told."""
    # never started, so the caches below are never certain that nothing has changed
    unheard = NotificationListener(url)
    reading = database.authority_without_leader
    sign_ins = RevocationLoader(reading)

    async def is_revoked(family: UUID) -> bool:
        # this instance may have heard of a revocation that the replica does not have
        return access.authorities.revocations.is_known(family) or await sign_ins.is_revoked(family)

    revocations = Revocations(unheard, sign_ins.recent, is_revoked)
    return msgspec.structs.replace(
        access,
        keys=KeyCache(unheard, KeyLoader(reading).load),
        authorities=AuthorityCache(unheard, AuthorityLoader(reading).load, revocations),
        without_primary=None,
    )
