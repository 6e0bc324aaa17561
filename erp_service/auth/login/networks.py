"""Where a log-in comes from, and from where an account has signed in before."""

import ipaddress
from typing import NamedTuple

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert

from erp_service.auth.models import LoginNetwork
from erp_service.db.sessions import WriteSession
from erp_service.registry.housekeeping import Pruning

MOST_KNOWN = 20
"""Networks that are remembered for one account: the ones last used."""

REMEMBERED_DAYS = 90

# One customer of a provider has an IPv4 address, or an IPv6 /56 (RFC 6177); a site has an IPv4 /24 or an IPv6 /48,
# which anybody can have for nothing; a /16 or a /32 is about what a small provider has.
_PREFIXES = {4: (32, 24, 16), 6: (56, 48, 32)}


class Networks(NamedTuple):
    """The networks around an address, from narrow to wide."""

    customer: str
    site: str
    provider: str


def networks_of(address: str | None) -> Networks:
    """All of them are `unknown` if the address is none."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return Networks("unknown", "unknown", "unknown")
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return Networks(*(str(ipaddress.ip_network((int(ip), bits), strict=False)) for bits in _PREFIXES[ip.version]))


async def remember(db: WriteSession, user_id: int, networks: Networks) -> None:
    """The user has signed in from there. The caller holds a lock on the user's row."""
    statement = insert(LoginNetwork).values(user_id=user_id, network=networks.customer)
    now = {"last_success_at": statement.excluded.last_success_at}
    key = [LoginNetwork.user_id, LoginNetwork.network]
    await db.execute(statement.on_conflict_do_update(index_elements=key, set_=now))
    own = LoginNetwork.user_id == user_id
    newest = (
        select(LoginNetwork.network)
        .where(own)
        .order_by(LoginNetwork.last_success_at.desc(), LoginNetwork.network)
        .limit(MOST_KNOWN)
    )
    await db.execute(delete(LoginNetwork).where(own, LoginNetwork.network.not_in(newest)))


async def forget(db: WriteSession, user_id: int, *, but: Networks | None = None) -> None:
    """After a change of the password: who knew the old one is a stranger again, at all networks `but` these."""
    others = [] if but is None else [LoginNetwork.network != but.customer]
    await db.execute(delete(LoginNetwork).where(LoginNetwork.user_id == user_id, *others))


HOUSEKEEPING = (
    Pruning(
        "login networks",
        text(f"""
        delete from login_networks where (user_id, network) in (
          select user_id, network from login_networks
          where last_success_at < now() - interval '{REMEMBERED_DAYS} days' limit :batch for update skip locked)
        """),  # noqa: S608 a constant
    ),
)
