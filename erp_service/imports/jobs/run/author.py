"""Whose rights the run of an import has: those of the credential that it was submitted with, judged again."""

from erp_service.access.principals import KeyGrant, Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import Scope
from erp_service.auth import queries as auth_queries
from erp_service.auth.api_keys import queries as key_queries
from erp_service.db.sessions import Session
from erp_service.exports.context import ExportContext
from erp_service.imports.jobs.lifecycle import Claimed
from erp_service.imports.jobs.problems import ImportForbidden, ImportKeyRefused
from erp_service.imports.jobs.service import LEAST


async def author(exports: ExportContext, claimed: Claimed) -> Principal:
    """The owner with the rights that they have now, and no more than at the submission; with the API key by which the
    import was submitted, if that was one.

    Raises ImportForbidden, ImportKeyRefused."""
    least, scope = LEAST[claimed.dataset]
    if claimed.spec.undo_of is not None or claimed.spec.history:
        least = Role.ADMIN
    async with exports.database.read() as db:
        authority = await auth_queries.authority(db, claimed.user_id)
        if authority is None or not authority.active or not authority.role.includes(least):
            raise ImportForbidden(f"When its turn came, its owner was not an active {least}.")
        key = None if claimed.api_key_id is None else await _key(db, claimed.api_key_id, scope)
    return Principal(claimed.user_id, authority.role.at_most(Role(claimed.most_role)), key=key)


async def require_still(exports: ExportContext, claimed: Claimed, who: Principal) -> None:
    """Before the commit, since the work may have taken minutes. Not in its transaction, where now() is its beginning,
    and a key that has expired since would still count. Raises ImportForbidden, ImportKeyRefused."""
    if not (await author(exports, claimed)).role.includes(who.role):
        raise ImportForbidden(f"While it ran, its owner lost the role {who.role}.")


async def _key(db: Session, key_id: int, scope: Scope) -> KeyGrant:
    """The role of a key never changes, so that at the submission is enough."""
    rights = await key_queries.rights_by_id(db, key_id)
    if rights is None:
        raise ImportKeyRefused("The key was revoked or has expired.")
    if missing := [needed for needed in (Scope.IMPORTS_WRITE, scope) if needed not in rights.scopes]:
        raise ImportKeyRefused(f"The key has no scope {' or '.join(missing)}.")
    return KeyGrant(rights.id, rights.scopes)
