"""What it takes to read the file of an export: the role for what is in it, and with an API key its scopes, too."""

from collections.abc import Sequence

import msgspec

from erp_service import errors
from erp_service.access.principals import Principal
from erp_service.access.roles import Role
from erp_service.access.scopes import KeyAccess, Keys
from erp_service.exports.catalogue import DATASETS


class Needed(msgspec.Struct, frozen=True):
    """The least role for all that is in a file, and the scopes that a key needs, all of them."""

    role: Role
    scopes: frozenset[KeyAccess]


def needed_for(dataset: str, datasets: Sequence[str] | None) -> Needed:
    """For a job of `dataset`; `datasets` are those that its file holds, if it holds several."""
    known = [DATASETS.get(name) for name in datasets or [dataset]]
    # a dataset that this version does not know is only for the role that may read everything, and for no key
    roles = [Role.SUPER_ADMIN if each is None else each.role for each in known]
    scopes: list[KeyAccess] = [Keys.NONE if each is None else each.scope for each in known]
    return Needed(max(roles, key=lambda role: role.rank), frozenset(scopes))


def require(who: Principal, needed: Needed) -> None:
    """Raises errors.Forbidden, errors.KeyScopeMissing."""
    if not who.role.includes(needed.role):
        raise errors.Forbidden(
            f"What is in this export needs the role {needed.role} or a higher one; yours is {who.role}."
        )
    for scope in sorted(needed.scopes):
        who.require_scope(scope)
