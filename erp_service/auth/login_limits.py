"""Slows down the guessing of passwords, across all instances: each log-in attempt is counted before its password is
hashed, and a success takes its count back.

Three counters of five minutes each. The narrowest is checked first: an attempt that it refuses does not use up the
wider ones.

* one account from one network (`login_failures_per_account`): the usual guesser;
* one network, whatever the account (`login_failures_per_address`): one password tried on every account;
* one account from anywhere, ten times as many: many networks that guess together.

So whoever guesses the password of an account slows down their own network, and not the account's owner in another
one, unless they command ten networks. No counter depends on whether the account exists.
"""

import hashlib
import ipaddress

from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.web import rate_limits

WINDOW_SECONDS = 300
ANYWHERE_FACTOR = 10
"""How many times as many failures one account may have over all networks."""

_ACCOUNT_IN_NETWORK = "login account network"
_NETWORK = "login network"
_ACCOUNT = "login account"


async def count_attempt(database: Database, settings: Settings, email: str, address: str | None) -> None:
    """Raises errors.TooMany when one of the three limits is reached."""
    account, network = _account(email), _network(address)
    most, seconds = settings.login_failures_per_account, WINDOW_SECONDS
    await rate_limits.take(database, _ACCOUNT_IN_NETWORK, f"{account} {network}", most=most, seconds=seconds)
    await rate_limits.take(database, _NETWORK, network, most=settings.login_failures_per_address, seconds=seconds)
    await rate_limits.take(database, _ACCOUNT, account, most=most * ANYWHERE_FACTOR, seconds=seconds)


async def reset_after_success(database: Database, email: str, address: str | None) -> None:
    """The counters of the account start again at zero. The network's gets only this attempt back: otherwise a guesser
    with an account of their own could clear it at will."""
    account, network = _account(email), _network(address)
    await rate_limits.forget(database, _ACCOUNT_IN_NETWORK, f"{account} {network}")
    await rate_limits.give_back(database, _NETWORK, network)
    await rate_limits.forget(database, _ACCOUNT, account)


def _account(email: str) -> str:
    # a hash, since people type passwords into the wrong field: what was typed must not be stored
    return hashlib.sha256(email.casefold().encode()).hexdigest()[:32]


def _network(address: str | None) -> str:
    """For IPv6 the /64: one customer of a provider has that many addresses to come from (RFC 6177)."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((int(ip), 64), strict=False))
    return str(ip)
