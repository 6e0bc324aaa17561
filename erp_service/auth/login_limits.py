"""Failed log-ins are slowed across instances: each attempt is counted before its hash, and a success undoes its count.

Three counts of five minutes, the narrowest first, so that what a narrow one refuses does not use up a wide one:

* one account from one network (`login_failures_per_account`): the usual guesser;
* one network, whatever the account (`login_failures_per_address`): one password tried on every account;
* one account from anywhere, ten times as many: many networks that guess together.

So whoever guesses at an account slows their own network, and not the owner in another one, unless they command ten
networks. None of the counts depends on whether the account exists.
"""

import hashlib
import ipaddress

from erp_service.db.engine import Database
from erp_service.settings import Settings
from erp_service.web import rate_limits

WINDOW = 300  # seconds
ANYWHERE = 10  # times as many failures of one account, over all networks

_HERE = "login account network"
_NETWORK = "login network"
_ACCOUNT = "login account"


async def count(database: Database, settings: Settings, email: str, address: str | None) -> None:
    """Raises errors.TooMany when one of the three is used up."""
    account, network = _account(email), _network(address)
    most = settings.login_failures_per_account
    await rate_limits.take(database, _HERE, f"{account} {network}", most=most, seconds=WINDOW)
    await rate_limits.take(database, _NETWORK, network, most=settings.login_failures_per_address, seconds=WINDOW)
    await rate_limits.take(database, _ACCOUNT, account, most=most * ANYWHERE, seconds=WINDOW)


async def succeeded(database: Database, email: str, address: str | None) -> None:
    """The account starts afresh; the network gets back this one attempt only, or a guesser with an account of their
    own could clear it at will."""
    account, network = _account(email), _network(address)
    await rate_limits.forget(database, _HERE, f"{account} {network}")
    await rate_limits.give_back(database, _NETWORK, network)
    await rate_limits.forget(database, _ACCOUNT, account)


def _account(email: str) -> str:
    # people type passwords into the wrong field: what was typed is not kept
    return hashlib.sha256(email.casefold().encode()).hexdigest()[:32]


def _network(address: str | None) -> str:
    """One customer of an IPv6 provider has a whole /64 to come from (RFC 6177)."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((int(ip), 64), strict=False))
    return str(ip)
